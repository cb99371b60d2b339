//! From Blender's conventions to ours.

use grange_protocol::agent::Failure;

use super::passes::Passes;
use super::{Direction, Kind, Picture, Truth, odd};

/// Cycles says so where nothing is. Scene units.
const NOTHING: f32 = 1e9;

/// The picture of a truth, as the module's table has it.
pub(super) fn convert(passes: &Passes, truth: &Truth) -> Result<Picture, Failure> {
    let planes = passes.of(truth)?;
    let planes = match (truth.kind, &planes[..]) {
        (Kind::Depth { far }, [Some(z)]) => {
            let far = far.unwrap_or(NOTHING).min(NOTHING);
            vec![("Y", mapped(z, |z| if z < far { z } else { f32::INFINITY }))]
        }
        (Kind::Segmentation | Kind::Material, [Some(number)]) => vec![("Y", number.to_vec())],
        (Kind::Normal { rotation }, [Some(x), Some(y), Some(z)]) => normals(rotation, [x, y, z]),
        (Kind::Flow { direction }, [Some(x), Some(y), Some(z), Some(w)]) => {
            flow(direction, [x, y, z, w])
        }
        (Kind::Diffuse | Kind::Points, [Some(r), Some(g), Some(b)]) => {
            rgb([r.to_vec(), g.to_vec(), b.to_vec()])
        }
        (
            Kind::Specular,
            [Some(dr), Some(dg), Some(db), ir, ig, ib, Some(cr), Some(cg), Some(cb)],
        ) => rgb([reflected(dr, *ir, cr), reflected(dg, *ig, cg), reflected(db, *ib, cb)]),
        _ => return Err(odd("a pass of it is incomplete")),
    };
    Ok(Picture { width: passes.width, height: passes.height, planes })
}

fn mapped(plane: &[f32], value: impl Fn(f32) -> f32) -> Vec<f32> {
    plane.iter().map(|one| value(*one)).collect()
}

fn rgb([r, g, b]: [Vec<f32>; 3]) -> Vec<(&'static str, Vec<f32>)> {
    vec![("R", r), ("G", g), ("B", b)]
}

/// Turned, and of unit length: the mean of several unit vectors is shorter.
fn normals(
    rotation: Option<[[f32; 3]; 3]>,
    [x, y, z]: [&[f32]; 3],
) -> Vec<(&'static str, Vec<f32>)> {
    let rows = rotation.unwrap_or([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
    let mut turned = [(); 3].map(|()| Vec::with_capacity(x.len()));
    for ((x, y), z) in x.iter().zip(y).zip(z) {
        let length = (x * x + y * y + z * z).sqrt();
        let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        for (plane, row) in turned.iter_mut().zip(rows) {
            plane.push((row[0] * x + row[1] * y + row[2] * z) * scale);
        }
    }
    rgb(turned)
}

/// Blender's pass is *previous − now* and *now − next*, with y up.
fn flow(direction: Direction, [x, y, z, w]: [&[f32]; 4]) -> Vec<(&'static str, Vec<f32>)> {
    // Adding zero makes the negative one positive.
    let same = |plane: &[f32]| mapped(plane, |value| value + 0.0);
    let negated = |plane: &[f32]| mapped(plane, |value| 0.0 - value);
    match direction {
        Direction::Forward => rgb([negated(z), same(w), vec![0.0; x.len()]]),
        Direction::Backward => rgb([same(x), negated(y), vec![0.0; x.len()]]),
        Direction::Both => {
            vec![("R", negated(z)), ("G", same(w)), ("B", same(x)), ("A", negated(y))]
        }
    }
}

fn reflected(direct: &[f32], indirect: Option<&[f32]>, color: &[f32]) -> Vec<f32> {
    let indirect = |at: usize| indirect.map_or(0.0, |plane| plane[at]);
    let light = direct.iter().enumerate().map(|(at, direct)| direct + indirect(at));
    light.zip(color).map(|(light, color)| light * color).collect()
}
