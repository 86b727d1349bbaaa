"""hotloop's policies as a LeRobot plugin, ``--policy.type=hotloop``.

Every lerobot command imports this, so it imports no hotloop; the processor's steps have to be
registered before a stored policy is opened.
"""

from .configuration_hotloop import HotloopConfig
from .processor_hotloop import make_hotloop_pre_post_processors

__all__ = ["HotloopConfig", "make_hotloop_pre_post_processors"]
