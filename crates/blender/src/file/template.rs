//! Output paths as templates, as Blender has them from 4.5 on: `{scene_name}_{fps:##}`.

/// What the variables of a template stand for.
pub(super) struct Variables {
    pub(super) blend_name: String,
    pub(super) scene_name: String,
    pub(super) camera_name: Option<String>,
    pub(super) fps: f64,
    pub(super) resolution_x: f64,
    pub(super) resolution_y: f64,
}

enum Value<'a> {
    Text(&'a str),
    Number(f64),
}

impl Variables {
    /// The text with its variables filled in. What Blender would refuse to expand stays as it
    /// is, without its braces.
    pub(super) fn expand(&self, template: &str) -> String {
        let mut out = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            out.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(escaped) = rest.strip_prefix(brace) {
                out.push_str(brace);
                rest = escaped;
            } else if let Some(end) = rest.find('}').filter(|_| brace == "{") {
                out.push_str(&self.value(&rest[..end]).unwrap_or_else(|| rest[..end].into()));
                rest = &rest[end + 1..];
            }
        }
        out + rest
    }

    fn value(&self, expression: &str) -> Option<String> {
        let (name, format) = expression.split_once(':').unwrap_or((expression, ""));
        let value = match name {
            "blend_name" | "blend_name_lib" => Value::Text(&self.blend_name),
            "scene_name" => Value::Text(&self.scene_name),
            "camera_name" => Value::Text(self.camera_name.as_deref()?),
            "fps" => Value::Number(self.fps),
            "resolution_x" => Value::Number(self.resolution_x),
            "resolution_y" => Value::Number(self.resolution_y),
            _ => return None,
        };
        match value {
            Value::Text(text) => format.is_empty().then(|| text.into()),
            Value::Number(number) => formatted(number, format),
        }
    }
}

/// A number as `##.###` writes it: at least two digits before the point, three after it.
fn formatted(number: f64, format: &str) -> Option<String> {
    if format.is_empty() {
        return Some(number.to_string());
    }
    let (whole, fraction) = match format.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (format, ""),
    };
    let digits = |part: &str| part.bytes().all(|byte| byte == b'#').then_some(part.len());
    let (whole, fraction) = (digits(whole)?, digits(fraction)?);
    let width = whole + if fraction > 0 { fraction + 1 } else { 0 };
    Some(format!("{number:0width$.fraction$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_expand_as_in_blender() {
        let variables = Variables {
            blend_name: "some file.v2".into(),
            scene_name: "Main".into(),
            camera_name: None,
            fps: 30.0 / f64::from(1.001f32),
            resolution_x: 960.0,
            resolution_y: 540.0,
        };
        for (template, expanded) in [
            ("####", "####"),
            ("{blend_name}_####", "some file.v2_####"),
            ("a{blend_name}b{scene_name}c", "asome file.v2bMainc"),
            ("{fps}", "29.970028570928392"),
            ("{fps:##}", "30"),
            ("{fps:#.##}", "29.97"),
            ("{fps:.##}", "29.97"),
            ("{resolution_x:#####}", "00960"),
            ("{resolution_y:##.###}", "540.000"),
            ("{{x}}_{{", "{x}_{"),
            // Blender refuses these.
            ("{unknown}_{blend_name:##}", "unknown_blend_name:##"),
            ("{camera_name}", "camera_name"),
            ("a{b", "ab"),
            ("a}b", "ab"),
        ] {
            assert_eq!(variables.expand(template), expanded, "{template}");
        }
    }
}
