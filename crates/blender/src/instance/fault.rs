//! What Blender's own error messages say about another try.

use grange_protocol::agent::{Failure, FailureKind};

/// Parts of messages, lower case, and what they mean. The first that is found counts.
const SIGNS: [(&str, FailureKind); 20] = [
    ("out of memory", FailureKind::OutOfMemory),
    ("out of gpu memory", FailureKind::OutOfMemory),
    ("out_of_memory", FailureKind::OutOfMemory),
    ("bad_alloc", FailureKind::OutOfMemory),
    ("alloc returns null", FailureKind::OutOfMemory),
    ("memoryerror", FailureKind::OutOfMemory),
    ("no camera", FailureKind::Scene),
    ("unknown variable", FailureKind::Scene),
    ("path template", FailureKind::Scene),
    ("no space left", FailureKind::Host),
    ("permission denied", FailureKind::Host),
    ("read-only file system", FailureKind::Host),
    ("disk quota", FailureKind::Host),
    ("input/output error", FailureKind::Host),
    ("cannot save", FailureKind::Host),
    ("openimagedenoise", FailureKind::Host),
    ("cuda", FailureKind::Host),
    ("optix", FailureKind::Host),
    ("hip ", FailureKind::Host),
    ("oneapi", FailureKind::Host),
];

/// A failure in Blender's words, which may be several lines.
pub(crate) fn judged(reason: &str) -> Failure {
    let words = reason.to_lowercase();
    let kind = SIGNS
        .iter()
        .find(|(sign, _)| words.contains(sign))
        .map_or(FailureKind::Other, |(_, kind)| *kind);
    Failure::new(kind, sentence(reason))
}

pub(crate) fn is_out_of_memory(text: &str) -> bool {
    let words = text.to_lowercase();
    SIGNS
        .iter()
        .filter(|(_, kind)| *kind == FailureKind::OutOfMemory)
        .any(|(sign, _)| words.contains(sign))
}

/// One line without the word `Error:`, of which Blender puts one before each.
fn sentence(reason: &str) -> String {
    let mut lines: Vec<&str> = reason
        .lines()
        .map(|line| line.trim().trim_start_matches("Error:").trim())
        .filter(|line| !line.is_empty())
        .collect();
    lines.dedup();
    if lines.is_empty() {
        return "Blender failed without a word".into();
    }
    format!("Blender says: {}", lines.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_seen_from_blender() {
        let kind = |text| judged(text).kind;
        assert_eq!(kind("Error: Cannot render, no camera\n"), FailureKind::Scene);
        assert_eq!(kind("Error: System is out of GPU memory\n"), FailureKind::OutOfMemory);
        assert_eq!(kind("Error: System is out of memory"), FailureKind::OutOfMemory);
        assert_eq!(
            kind("Error: Out of memory in CUDA queue enqueue (integrator_shade_surface)"),
            FailureKind::OutOfMemory
        );
        assert_eq!(
            kind("Error: Render error (No space left on device) cannot save: '/x/0001.png'"),
            FailureKind::Host
        );
        assert_eq!(kind("Error: Failed to create CUDA context (Invalid value)"), FailureKind::Host);
        assert_eq!(kind("Error: something new"), FailureKind::Other);
        assert_eq!(
            judged("Error: Cannot render, no camera\nError: Cannot render, no camera\n").reason,
            "Blender says: Cannot render, no camera"
        );
        assert_eq!(judged(" \n").reason, "Blender failed without a word");
    }
}
