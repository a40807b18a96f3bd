//! Weights in memory: what the exporter writes is what is multiplied with, so nothing is held twice.
//!
//! A matrix `[outputs, inputs]` is cut into tiles of [`TILE`] outputs, and a tile into blocks of [`BLOCK`] inputs; block follows
//! block and tile follows tile. Within a block four inputs of one output lie together, and beside them those of the next output:
//! that is what one lane of the integer instructions of every processor takes.

use std::slice;

use half::f16;

use crate::{BLOCK, TILE};

/// Bits of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bits {
    /// 5 bits a weight in all.
    Four,
    /// 8.5 bits a weight in all.
    Eight,
}

/// A block of weights `scale * code + offset`, codes from 0 to 15. GGUF's Q4_1 fits in without loss.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Block4 {
    /// `[j][4 * output + i]` holds input `8j + i` in its low half and input `8j + 4 + i` in its high one.
    pub codes: [[u8; 4 * TILE]; BLOCK / 8],
    /// One for each output.
    pub scales: [f16; TILE],
    /// One for each output.
    pub offsets: [f16; TILE],
}

/// A block of weights `scale * (code - 128)`, codes from 0 to 255.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Block8 {
    /// `[j][4 * output + i]` holds input `4j + i`.
    pub codes: [[u8; 4 * TILE]; BLOCK / 4],
    /// One for each output.
    pub scales: [f16; TILE],
}

/// What is subtracted from a code of 8 bits.
pub const CENTRE: i32 = 128;

/// Blocks of one form.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Blocks<'a> {
    Four(&'a [Block4]),
    Eight(&'a [Block8]),
}

/// A matrix of weights `[outputs, inputs]`, borrowed from the bytes of a model's file.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    pub(crate) blocks: Blocks<'a>,
    inputs: usize,
    outputs: usize,
}

/// Why bytes are no matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The sizes of a block and of a tile must divide them.
    #[error("{outputs} outputs of {inputs} inputs cannot be cut into tiles of {TILE} and blocks of {BLOCK}")]
    Shape {
        /// As they were given.
        inputs: usize,
        /// As they were given.
        outputs: usize,
    },
    /// There are more or fewer than the shape needs.
    #[error("there are {found} bytes of weights, and not {wanted}")]
    Size {
        /// As they were given.
        found: usize,
        /// By the shape.
        wanted: usize,
    },
    /// Scales are numbers of two bytes.
    #[error("weights begin at an odd address")]
    Alignment,
}

impl<'a> Matrix<'a> {
    /// Reads what the exporter wrote, little-endian.
    ///
    /// # Errors
    /// [`LayoutError`] when the bytes are not those of such a matrix. Any bytes of the right number are one.
    pub fn new(bits: Bits, inputs: usize, outputs: usize, bytes: &'a [u8]) -> Result<Self, LayoutError> {
        let none = inputs == 0 || outputs == 0;
        if none || !inputs.is_multiple_of(BLOCK) || !outputs.is_multiple_of(TILE) {
            return Err(LayoutError::Shape { inputs, outputs });
        }
        let blocks = match bits {
            Bits::Four => Blocks::Four(cast(bytes, inputs, outputs)?),
            Bits::Eight => Blocks::Eight(cast(bytes, inputs, outputs)?),
        };
        Ok(Self { blocks, inputs, outputs })
    }

    /// Length of a row that it is multiplied with.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Length of a row of the result.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Blocks of a tile.
    pub(crate) fn blocks_per_tile(&self) -> usize {
        self.inputs / BLOCK
    }

    /// The weights of one output as float32 `[inputs]`, exactly: a row of an embedding table.
    ///
    /// # Panics
    /// Where there is no such output, or `to` is of another length.
    pub fn row(&self, output: usize, to: &mut [f32]) {
        assert!(output < self.outputs && to.len() == self.inputs, "a row of the matrix, and room for it");
        let (tile, lane) = (output / TILE, output % TILE);
        let first = tile * self.blocks_per_tile();
        for (block, to) in to.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            match self.blocks {
                Blocks::Four(blocks) => {
                    let (scale, offset) = blocks[first + block].scale_and_offset(lane);
                    for (input, to) in to.iter_mut().enumerate() {
                        *to = scale.mul_add(f32::from(blocks[first + block].code(lane, input)), offset);
                    }
                }
                Blocks::Eight(blocks) => {
                    let scale = blocks[first + block].scale(lane);
                    for (input, to) in to.iter_mut().enumerate() {
                        *to = scale * (f32::from(blocks[first + block].code(lane, input)) - 128.0);
                    }
                }
            }
        }
    }
}

impl Block4 {
    pub(crate) fn code(&self, output: usize, input: usize) -> u8 {
        let byte = self.codes[input / 8][4 * output + input % 4];
        if input % 8 < 4 { byte & 15 } else { byte >> 4 }
    }

    pub(crate) fn scale_and_offset(&self, output: usize) -> (f32, f32) {
        (self.scales[output].to_f32(), self.offsets[output].to_f32())
    }
}

impl Block8 {
    pub(crate) fn code(&self, output: usize, input: usize) -> u8 {
        self.codes[input / 4][4 * output + input % 4]
    }

    pub(crate) fn scale(&self, output: usize) -> f32 {
        self.scales[output].to_f32()
    }
}

/// A form of blocks, of which any bytes are some.
///
/// # Safety
/// The type has no padding, and no bit pattern that it may not have.
#[allow(unsafe_code)]
unsafe trait Plain {}
// SAFETY: bytes and float16 numbers, in arrays whose sizes are even.
#[allow(unsafe_code)]
unsafe impl Plain for Block4 {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Plain for Block8 {}

fn cast<T: Plain>(bytes: &[u8], inputs: usize, outputs: usize) -> Result<&[T], LayoutError> {
    let blocks = (inputs / BLOCK).saturating_mul(outputs / TILE);
    let wanted = blocks.saturating_mul(size_of::<T>());
    if bytes.len() != wanted {
        return Err(LayoutError::Size { found: bytes.len(), wanted });
    }
    let start = bytes.as_ptr().cast::<T>();
    if !start.is_aligned() {
        return Err(LayoutError::Alignment);
    }
    // SAFETY: so many bytes are there, aligned, and any bytes will do.
    #[allow(unsafe_code)]
    Ok(unsafe { slice::from_raw_parts(start, blocks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_matrix_are_refused() {
        let bytes = vec![0u8; 321];
        let of = |bits, inputs, outputs, bytes| Matrix::new(bits, inputs, outputs, bytes).map(|_| ()).unwrap_err();
        for (inputs, outputs) in [(0, 16), (32, 0), (33, 16), (32, 17), (16, 16)] {
            assert_eq!(of(Bits::Four, inputs, outputs, &bytes), LayoutError::Shape { inputs, outputs });
        }
        assert_eq!(of(Bits::Four, 32, 16, &bytes), LayoutError::Size { found: 321, wanted: 320 });
        assert_eq!(of(Bits::Eight, 32, 16, &bytes[..320]), LayoutError::Size { found: 320, wanted: 544 });
        // Whose size wraps around to nothing.
        for (inputs, outputs) in [(usize::MAX / BLOCK * BLOCK, 16), (1 << 40, 1 << 40)] {
            assert!(matches!(of(Bits::Four, inputs, outputs, &[]), LayoutError::Size { .. }));
        }
        let odd = usize::from((bytes.as_ptr() as usize).is_multiple_of(2));
        assert_eq!(of(Bits::Four, 32, 16, &bytes[odd..][..320]), LayoutError::Alignment);
    }

    #[test]
    fn a_row_is_what_its_codes_say() {
        let mut block = Block4 { codes: [[0; 64]; 4], scales: [f16::ONE; 16], offsets: [f16::NEG_ONE; 16] };
        block.codes[1][4 * 5 + 2] = 0x73; // inputs 10 and 14 of output 5
        block.scales[5] = f16::from_f32(0.5);
        let mut row = [0.0; 32];
        Matrix { blocks: Blocks::Four(&[block]), inputs: 32, outputs: 16 }.row(5, &mut row);
        assert_eq!((row[10], row[14], row[11]), (0.5, 2.5, -1.0));
        let mut block = Block8 { codes: [[128; 64]; 8], scales: [f16::ONE; 16] };
        block.codes[2][4 * 5 + 3] = 0; // input 11 of output 5
        Matrix { blocks: Blocks::Eight(&[block]), inputs: 32, outputs: 16 }.row(5, &mut row);
        assert_eq!((row[10], row[11]), (0.0, -128.0));
    }
}
