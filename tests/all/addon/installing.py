"""The zip, installed as a person does it: as an add-on before 4.2, as an extension from then on.
Arguments: the zip and an empty folder. Everything of the user is in BLENDER_USER_RESOURCES."""

import os
import sys

sys.dont_write_bytecode = True

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bpy  # noqa: E402
import paper  # noqa: E402

ZIP, FOLDER = sys.argv[-2:]
IS_EXTENSION = bpy.app.version >= (4, 2)


def install():
    """The module's name."""
    if not IS_EXTENSION:
        bpy.ops.preferences.addon_install(filepath=ZIP)
        bpy.ops.preferences.addon_enable(module="grange_addon")
        return "grange_addon"
    bpy.ops.extensions.package_install_files(
        filepath=ZIP, repo="user_default", enable_on_install=True
    )
    return "bl_ext.user_default.grange"


def its_preferences(own):
    """They are there, and are drawn."""
    assert (own.priority, own.listening, own.autosave) == (50, "STREAM", False)
    panel = paper.Panel()
    for prop in own.bl_rna.properties:
        setattr(panel, prop.identifier, getattr(own, prop.identifier))
    panel.bl_rna = own.bl_rna
    type(own).draw(panel, paper.Context())
    assert {"listening", "poll_s", "priority", "autosave"} <= set(panel.texts()), panel.texts()


def main():
    home = os.environ["BLENDER_USER_RESOURCES"]
    name = install()
    assert name in bpy.context.preferences.addons, list(bpy.context.preferences.addons.keys())
    module = sys.modules[name]
    assert module.__file__.startswith(home), module.__file__
    client = __import__(f"{name}.vendored.grange", fromlist=["Farm"])
    assert client.Farm.__module__ == f"{name}.vendored.grange.farm"
    assert "grange" not in sys.modules and "rich" not in sys.modules
    its_preferences(bpy.context.preferences.addons[name].preferences)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = 1, False
    scene.render.resolution_x = scene.render.resolution_y = 8
    scene.render.filepath = os.path.join(FOLDER, "")
    bpy.ops.grange.shots_from_cameras()
    assert bpy.ops.grange.render_shots() == {"FINISHED"}
    assert os.listdir(FOLDER) == ["Camera.png"]
    bpy.ops.preferences.addon_disable(module=name)
    assert not hasattr(bpy.types.Scene, "grange")
    bpy.ops.preferences.addon_enable(module=name)
    assert hasattr(bpy.types.Scene, "grange")
    print("all is well", flush=True)


try:
    main()
except BaseException:
    import traceback

    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)
os._exit(0)
