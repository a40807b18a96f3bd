//! Which instructions a processor has, and which are used.

use std::fmt;

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
use crate::arm;
#[cfg(target_arch = "x86_64")]
use crate::x86::{avx2, avx512};
use crate::{
    BLOCK,
    activations::Group,
    attend::Attention,
    encoder,
    layout::{Block4, Block8},
    scalar,
};

/// Instructions that this processor has: there is no value of others.
#[derive(Clone, Copy)]
pub struct Path(&'static Kernels);

/// What is written once for each set of instructions.
#[derive(Clone, Copy)]
#[allow(clippy::type_complexity, reason = "each is documented where it is written")]
pub(crate) struct Kernels {
    pub name: &'static str,
    /// [`crate::activations::quantize`].
    pub quantize: unsafe fn(&[[f32; BLOCK]], &mut [Group], usize),
    /// [`scalar::product4`].
    pub product4: unsafe fn(&[Group], usize, &[Block4], *mut f32, usize),
    /// [`scalar::product8`].
    pub product8: unsafe fn(&[Group], usize, &[Block8], *mut f32, usize),
    /// [`crate::rows::add_row`].
    pub add: unsafe fn(&[f32], &[f32], &mut [f32]),
    /// [`crate::rows::norm_row`].
    pub norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    /// [`crate::rows::swiglu_row`].
    pub swiglu: unsafe fn(&[f32], &[f32], &mut [f32]),
    /// What [`crate::attention`] is made of.
    pub attention: Attention,
    /// What encoders alone need.
    pub encoder: encoder::Kernels,
}

/// This processor lacks the instructions, or there are none of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this processor cannot run kernels for \"{wanted}\"; it can for {available}")]
pub struct Unavailable {
    wanted: String,
    available: String,
}

impl Path {
    /// The definition.
    pub const SCALAR: Self = Self(&scalar::KERNELS);

    /// All that this processor can run, the slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "on other processors")]
        let mut paths = vec![Self::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            if avx2::is_available() {
                paths.push(Self(&avx2::KERNELS));
            }
            if avx512::is_available() {
                paths.push(Self(&avx512::KERNELS));
            }
        }
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        {
            paths.push(Self(&arm::NEON));
            if arm::has_dotprod() {
                paths.push(Self(&arm::DOTPROD));
            }
        }
        paths
    }

    /// The fastest of them.
    #[must_use]
    pub fn best() -> Self {
        *Self::available().last().expect("the scalar one is always there")
    }

    /// The one of a name.
    ///
    /// # Errors
    /// [`Unavailable`] where this processor has no such instructions.
    pub fn named(name: &str) -> Result<Self, Unavailable> {
        let available = Self::available();
        available.iter().find(|path| path.name() == name).copied().ok_or_else(|| Unavailable {
            wanted: name.to_owned(),
            available: available.iter().map(|path| path.name()).collect::<Vec<_>>().join(", "),
        })
    }

    /// As in a setting.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name
    }

    pub(crate) fn kernels(self) -> &'static Kernels {
        self.0
    }

    #[allow(unsafe_code)]
    pub(crate) fn quantize(self, x: &[[f32; BLOCK]], groups: &mut [Group], row: usize) {
        // SAFETY: the processor has the instructions, or there was no such path.
        unsafe { (self.0.quantize)(x, groups, row) }
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_by_name_where_the_processor_has_it() {
        for path in Path::available() {
            assert_eq!(Path::named(path.name()).unwrap().name(), path.name());
        }
        let error = Path::named("abacus").unwrap_err().to_string();
        assert!(error.contains("\"abacus\"") && error.contains("scalar"), "{error}");
    }
}
