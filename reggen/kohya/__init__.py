"""The rules of kohya's trainer as functions of plain data. Pure.

Every rule was read from kohya-ss/sd-scripts at 48d368fa and is compared with its own loader in
tests/conformance/test_kohya.py. Sizes are (width, height) in pixels throughout.
"""
