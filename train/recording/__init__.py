"""Recording a robot: frames at a steady rate, into a dataset that grows episode by episode."""
