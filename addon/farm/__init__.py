# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendering on a farm: `link` talks to it in threads, `desk` keeps what they tell, `live` brings
that into Blender's main thread, and the rest is what people see and press.

`told`, `link`, `desk`, `record` and `sending` know nothing of bpy; nothing else runs in a thread.
"""
