# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be rendered, worked out without Blender: frames, names, the pictures of a list of
shots, how far they are, and for which hosts. Nothing in here imports bpy, so plain Python tests it.
"""
