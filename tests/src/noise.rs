//! Pictures of noise, which do not compress: a file's size follows its picture's.

use image::{ImageFormat, Rgb, RgbImage};

/// The picture that fake Blenders render as the frame `seed`, always of the same bytes.
pub fn png(width: u32, height: u32, seed: i32) -> Vec<u8> {
    let mut state = seed as u32 ^ 0x9e37_79b9;
    let picture = RgbImage::from_fn(width, height, |_, _| {
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        Rgb([byte(), byte(), byte()])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).expect("a picture can be encoded");
    bytes.into_inner()
}
