"""From a photograph to its subject: find it, cut it out cleanly, frame it as models expect."""

from .found import NoObjectError
from .frame import FRAMING, frame_subject, is_framed
from .grabcut import grabcut_matte
from .matte import PhotoMatte, U2NetMatte, matte_from_alpha, matte_from_mask, whole_picture

__all__ = [
    "FRAMING",
    "NoObjectError",
    "PhotoMatte",
    "U2NetMatte",
    "frame_subject",
    "grabcut_matte",
    "is_framed",
    "matte_from_alpha",
    "matte_from_mask",
    "whole_picture",
]
