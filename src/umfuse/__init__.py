"""Align and fuse infrared and visible image pairs that are not registered."""

__version__ = "0.1.0"
