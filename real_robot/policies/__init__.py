"""What plans for the control loop: policies at their own control steps on a robot's clock."""
