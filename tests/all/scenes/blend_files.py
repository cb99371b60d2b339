"""Makes .blend files and says what Blender itself makes of them.

Runs in Blender (`--python blend_files.py -- FOLDER`) and under the bpy module
(`python blend_files.py FOLDER`). Writes FOLDER/report.json, or FOLDER/error.txt.
"""

import json
import os
import sys
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import disk
import links
import pictures
import settings

try:
    report = {"links": links.make(), "settings": settings.make(), "pictures": pictures.make()}
    with open(disk.path("report.json"), "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
except Exception:
    with open(disk.path("error.txt"), "w", encoding="utf-8") as file:
        traceback.print_exc(file=file)
sys.stdout.flush()
# The bpy modules may crash or hang when the interpreter ends by itself.
os._exit(0)
