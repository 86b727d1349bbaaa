"""What every part of hotloop needs and no part is about: files, plain data, plugins."""
