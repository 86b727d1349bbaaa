"""Where a robot's tool is, and which joint positions bring it elsewhere: MuJoCo and mink."""
