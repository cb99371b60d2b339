//! Postcard, with a length in front and a limit before memory is taken.
//!
//! A frame is a little-endian `u32` length and that many bytes of postcard.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of the length in front of a frame.
pub const LENGTH_BYTES: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("a message of {len} bytes is larger than the limit of {max}")]
    TooLarge { len: usize, max: usize },
    #[error("a message does not decode: {0}")]
    Malformed(postcard::Error),
    #[error("a message has {0} bytes too many at its end")]
    Trailing(usize),
}

/// Appends a whole frame to `out`.
pub fn encode_frame<T: Serialize>(
    value: &T,
    max: usize,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    match postcard::to_extend(value, std::mem::take(out)) {
        Ok(written) => *out = written,
        Err(error) => return Err(CodecError::Malformed(error)),
    }
    let len = out.len() - start - LENGTH_BYTES;
    if len > max {
        out.truncate(start);
        return Err(CodecError::TooLarge { len, max });
    }
    out[start..start + LENGTH_BYTES].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(())
}

/// The length that a frame's first bytes announce, if it is allowed.
pub fn frame_len(length: [u8; LENGTH_BYTES], max: usize) -> Result<usize, CodecError> {
    let len = u32::from_le_bytes(length) as usize;
    if len > max { Err(CodecError::TooLarge { len, max }) } else { Ok(len) }
}

/// A value and nothing after it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(CodecError::Trailing(rest.len())),
        Err(error) => Err(CodecError::Malformed(error)),
    }
}

/// A value's bytes, for blobs and the journal.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    postcard::to_stdvec(value).map_err(CodecError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_goes_round_and_a_large_one_is_refused() {
        let mut out = vec![9];
        encode_frame(&"hello", 100, &mut out).unwrap();
        assert_eq!(out, b"\x09\x06\0\0\0\x05hello");
        assert_eq!(frame_len([6, 0, 0, 0], 6).unwrap(), 6);
        assert_eq!(decode::<String>(&out[5..]).unwrap(), "hello");

        assert!(matches!(frame_len([7, 0, 0, 0], 6), Err(CodecError::TooLarge { len: 7, max: 6 })));
        assert!(matches!(decode::<String>(b"\x05hell"), Err(CodecError::Malformed(_))));
        assert!(matches!(decode::<String>(b"\x05hello!"), Err(CodecError::Trailing(1))));
        let before = out.clone();
        assert!(encode_frame(&"x".repeat(50), 10, &mut out).is_err());
        assert_eq!(out, before, "a refused message leaves nothing behind");
    }
}
