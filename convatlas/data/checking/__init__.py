"""What a set holds and what is wrong with it: bad files, duplicates, leaks, odd sizes, what EXIF gives away."""

from .checked import Check, Misnamed, SplitCheck, check
from .duplicates import Copy, Group, Leak
from .examining import bad_file

__all__ = ["Check", "Copy", "Group", "Leak", "Misnamed", "SplitCheck", "bad_file", "check"]
