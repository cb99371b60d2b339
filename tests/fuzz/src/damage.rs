//! Good bytes with a few things wrong, by numbers alone: the same seed and number damage alike.

/// Numbers that only their seed decides (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64, number: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to before `end`; 0 if that is 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// One of the inputs with a few things wrong.
    pub fn damaged(&mut self, inputs: &[(String, Vec<u8>)], len_max: usize) -> Vec<u8> {
        let good = &inputs[self.below(inputs.len())].1;
        let other = &inputs[self.below(inputs.len())].1;
        let mut bytes = good.clone();
        for _ in 0..=self.below(4) {
            self.damage(&mut bytes, other);
        }
        bytes.truncate(len_max);
        bytes
    }

    /// Half of the damage is near the beginning, where headers are.
    fn damage(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        /// What lengths and counts are when they are wrong.
        const BAD: [u64; 10] =
            [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 1 << 63, u64::MAX];
        let len = bytes.len();
        let end = if self.below(2) == 0 { len.min(256) } else { len };
        let at = self.below(end);
        let width = [1, 2, 4, 8][self.below(4)].min(len - at);
        match self.below(9) {
            0 if at < len => bytes[at] ^= 1 << self.below(8),
            1 if at < len => bytes[at] = self.next() as u8,
            2 => {
                let bad = BAD[self.below(BAD.len())];
                bytes[at..at + width].copy_from_slice(&bad.to_le_bytes()[..width]);
            }
            3 => {
                let bad = BAD[self.below(BAD.len())];
                bytes[at..at + width].copy_from_slice(&bad.to_be_bytes()[8 - width..]);
            }
            // As postcard writes them.
            4 if at < len => {
                let bad = varint(BAD[self.below(BAD.len())]);
                drop(bytes.splice(at..=at, bad));
            }
            // As people write them.
            5 if at < len => {
                let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let bad = BAD[self.below(BAD.len())].to_string();
                drop(bytes.splice(at..at + digits, bad.into_bytes()));
            }
            6 => bytes.truncate(at),
            7 => drop(bytes.drain(at..(at + self.below(64)).min(len))),
            _ => {
                let from = self.below(other.len());
                let piece = &other[from..(from + self.below(64)).min(other.len())];
                drop(bytes.splice(at..at, piece.iter().copied()));
            }
        }
    }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7F {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
