"""A toolbox at work: small networks that each repair one kind of damage, and an agent that chains them."""

from ...config.box_files import AGENT, TOOLS, TUNED, is_box
from .agent import Agent
from .box import load_box, load_tool
from .chain import Chain, Choice, Step
from .tools import Tool, reach_of

__all__ = [
    "AGENT",
    "TOOLS",
    "TUNED",
    "Agent",
    "Chain",
    "Choice",
    "Step",
    "Tool",
    "is_box",
    "load_box",
    "load_tool",
    "reach_of",
]
