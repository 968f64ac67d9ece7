"""Bounded readers of foreign bytes: each stops at a limit and never believes a length that it has not checked."""
