"""A layout that draws nothing, but refuses what this Blender's own would refuse: functions and
arguments that it does not have, icons, properties, operators and menus that do not exist."""

import bpy

FUNCTIONS = bpy.types.UILayout.bl_rna.functions
ICONS = set(FUNCTIONS["label"].parameters["icon"].enum_items.keys())
LAYOUTS = {"row", "column", "split", "box"}
DATA = {"prop": ("data", "property"), "prop_search": ("data", "property")}


class Layout:
    """Stands for `bpy.types.UILayout`."""

    def __init__(self, said):
        object.__setattr__(self, "said", said)

    def __setattr__(self, name, value):
        assert name in bpy.types.UILayout.bl_rna.properties, name

    def __getattr__(self, name):
        # Unlike the functions of Blender itself, Python's own are not listed.
        if name not in FUNCTIONS:
            raise AttributeError(name)

        def call(*positional, **named):
            return self.called(name, *positional, **named)

        return call

    def called(self, name, *positional, **named):
        parameters = [one.identifier for one in FUNCTIONS[name].parameters if not one.is_output]
        given = dict(zip(parameters, positional, strict=False)) | named
        unknown = set(given) - set(parameters)
        assert not unknown, (name, unknown)
        assert given.get("icon", "NONE") in ICONS, given["icon"]
        if name in DATA:
            data, prop = (given[one] for one in DATA[name])
            assert prop in data.bl_rna.properties, prop
        if name == "menu":
            assert hasattr(bpy.types, given["menu"]), given["menu"]
        self.said.append((name, str(given.get("text", given.get("property", "")))))
        if name == "operator":
            return Properties(given["operator"])
        return Layout(self.said) if name in LAYOUTS else None


class Properties:
    """Of an operator's button."""

    def __init__(self, operator):
        group, name = operator.split(".")
        known = getattr(getattr(bpy.ops, group), name).get_rna_type().properties
        object.__setattr__(self, "known", known)

    def __setattr__(self, name, value):
        assert name in self.known, name


class Region:
    """As wide as a sidebar."""

    width = 240


class System:
    """Without a window Blender's own scale is 0."""

    ui_scale = 1.0


class Preferences:
    """Of the interface."""

    system = System()


class Context:
    """Where the panels are drawn."""

    region = Region()
    area = None
    preferences = Preferences()

    def __getattr__(self, name):
        return getattr(bpy.context, name)


class Panel:
    """What a panel's `draw` takes for itself."""

    def __init__(self):
        self.said = []
        self.layout = Layout(self.said)

    def texts(self):
        return [text for _, text in self.said]


def drawn(panel):
    """What the panel says, in order."""
    made = Panel()
    panel.draw(made, Context())
    return made.texts()
