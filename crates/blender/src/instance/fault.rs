//! What Blender's own error messages say about another try.

use grange_protocol::agent::{Failure, FailureKind};

/// Parts of messages, lower case, and what they mean. The first that is found counts.
const SIGNS: [(&str, FailureKind); 33] = [
    // Cycles for itself, CUDA, HIP, OIDN and Embree; Blender's meshes, caches and render results.
    ("out of memory", FailureKind::OutOfMemory),
    ("out of gpu memory", FailureKind::OutOfMemory),
    ("out of gpu and shared host memory", FailureKind::OutOfMemory),
    // OptiX, and OpenGL for EEVEE.
    ("out_of_memory", FailureKind::OutOfMemory),
    // oneAPI and Vulkan. Intel's driver calls a full device out of resources.
    ("out_of_device_memory", FailureKind::OutOfMemory),
    ("out_of_host_memory", FailureKind::OutOfMemory),
    ("out_of_resources", FailureKind::OutOfMemory),
    ("mem_object_allocation_failure", FailureKind::OutOfMemory),
    ("memory allocation error", FailureKind::OutOfMemory),
    // HIP-RT, and Blender's buffers of all kinds.
    ("failed to allocate", FailureKind::OutOfMemory),
    ("cannot allocate", FailureKind::OutOfMemory),
    ("could not allocate", FailureKind::OutOfMemory),
    ("unable to allocate", FailureKind::OutOfMemory),
    ("not enough memory", FailureKind::OutOfMemory),
    ("insufficient memory", FailureKind::OutOfMemory),
    // Blender's guarded allocator, C++, Python.
    ("alloc returns null", FailureKind::OutOfMemory),
    ("bad_alloc", FailureKind::OutOfMemory),
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
    ("error writing tile", FailureKind::Host),
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
    fn want_of_memory_has_many_words() {
        for text in [
            "Error: System is out of GPU and shared host memory",
            "Out of memory in cuMemAlloc_v2(&device_pointer, size) (device/cuda/device_impl.cpp:551)",
            "Failed to create CUDA context (Out of memory)",
            "Out of memory in HIP queue synchronize (integrator_intersect_closest)",
            "OPTIX_ERROR_DEVICE_OUT_OF_MEMORY in optixAccelBuild(context, 0) (optix/util.h:25)",
            "Failed to allocate scratch buffer for BLAS",
            "oneAPI kernel - device memory allocation error for 2.00G, possibly caused by lack of \
             available memory space on the device",
            "oneAPI kernel \"shade_surface\" execution error: got runtime exception \"Native API \
             failed. Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)\"",
            "Error: run out of memory!",
            "OpenImageDenoise error: out of memory",
            "Failed allocate render result, out of memory",
            "Malloc returns null: len=800000000 in MLoop, total 2147480",
            "Calloc returns null: len=4096 in CustomData, total 2147480",
            "aligned_malloc returns null: len=64 in LatticeDeform, total 1",
            "terminate called after throwing an instance of 'std::bad_alloc'",
            "MemoryError",
            "imb_savepng: Cannot allocate pixels array of 9x9, 4 bytes per pixel for file: 'a'",
            "Error: Could not allocate shadow atlas. Most likely out of GPU memory.",
        ] {
            assert_eq!(judged(text).kind, FailureKind::OutOfMemory, "{text}");
            assert!(is_out_of_memory(&format!("Saved: a.png\n{text}\nWriting: x.crash.txt")));
        }
        for text in [
            "Switching to fully guarded memory allocator.",
            "Fra:1 Mem:57.28M (Peak 141.68M) | Mem:49.31M, Peak:49.31M | Scene | Sample 1/8",
            "Error: Illegal address in CUDA queue synchronize (integrator_shade_surface)",
            "Failed to build OptiX acceleration structure",
        ] {
            assert!(!is_out_of_memory(text), "{text}");
        }
    }

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
        assert_eq!(kind("Error writing tile to file"), FailureKind::Host);
        assert_eq!(kind("Error: Failed to create CUDA context (Invalid value)"), FailureKind::Host);
        assert_eq!(kind("Error: something new"), FailureKind::Other);
        assert_eq!(
            judged("Error: Cannot render, no camera\nError: Cannot render, no camera\n").reason,
            "Blender says: Cannot render, no camera"
        );
        assert_eq!(judged(" \n").reason, "Blender failed without a word");
    }
}
