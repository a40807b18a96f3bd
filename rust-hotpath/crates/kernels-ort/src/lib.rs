//! The kernels as operators of ONNX Runtime.
//!
//! | operator | inputs | outputs | attributes |
//! |---|---|---|---|
//! | `MatMulQ` | `x` f32 `[rows, K]`, `weights` u8, maybe `bias` f32 `[N]` | f32 `[rows, N]` | `bits` (4 or 8), `K`, `N`, maybe `gelu` |
//! | `NormMatMulQ` | `x`, maybe `addend` f32 `[rows, K]`, `norm` f32 `[K]`, `weights` u8 | f32 `[rows, N]`, or `[rows, N / 2]` where it is gated; maybe `x + addend` | those, `epsilon`, `gated` |
//! | `GatherQ` | `ids` i64, `weights` u8 | f32 `[ids, K]` | `bits`, `K`, `N`, maybe `rows`: how many may be asked for |
//! | `CachedAttention` | `rows` f32, `past_key`, `past_value` f16, `sequences`, `positions` i32 `[rows]`, `cosines`, `sines` f32 | f32 `[rows, heads * head_dim]`, `present_key`, `present_value` as the past | `heads`, `kv_heads`, `head_dim` |
//! | `LayerNormMatMulQ` | `x`, `addend` f32 `[rows, K]`, `norm_weight`, `norm_bias` f32 `[K]`, `weights` u8, `bias` f32 `[N]` | f32 `[rows, N]`, normed `[rows, K]` | those of `MatMulQ`, `epsilon`, `channels` |
//! | `AddLayerNorm` | `x`, `addend` f32 `[rows, K]`, `norm_weight`, `norm_bias` f32 `[K]` | normed `[rows, K]` | `epsilon`, `channels` |
//! | `PackedAttention` | `rows` f32 `[rows, 3 * heads * head_dim]`, `positions` i64 `[rows]` | f32 `[rows, heads * head_dim]` | `heads`, `head_dim` |
//!
//! `weights` are constants, in the layout of [`hotpath_kernels::layout`]. `NormMatMulQ` multiplies the normalised sum of `x` and
//! `addend`; gated, its outputs are tiles of gate and of up in turn. `CachedAttention` appends each row to its sequence of the
//! cache, at its position, and gives what it sees of that sequence up to there; where past and present are the same memory,
//! it writes the new rows alone. `LayerNormMatMulQ` multiplies the layer norm of `x + addend`, over the first `channels` of a row,
//! and keeps that norm; `AddLayerNorm` gives it alone. In `PackedAttention` each row sees the rows of its own text, which begins
//! where positions are 0 again; queries are scaled already.
//!
//! What a run writes to is its thread's. In Rust a session runs once at a time, as a run takes `&mut Session`. Python's threads may
//! run one session at once: `ort` then lends the same kernel as `&mut` to several of them, which Rust's rules do not allow and this
//! crate cannot prevent; no kernel here has anything that a run writes to. No run allocates but a thread's first of its kind, and
//! those that need more than a thread keeps; and no panic reaches ONNX Runtime. Tensors that a caller bound to one memory are
//! refused, but for past and present of one cache.

mod attention;
mod context;
mod encoder;
mod gather;
mod product;
mod scratch;
#[cfg(test)]
mod tests;

use std::{env, ffi::CString, panic::catch_unwind, ptr, sync::OnceLock};

use hotpath_kernels::Path;
use ort::{AsPointer, Result, operator::OperatorDomain, sys};

/// Domain of the operators.
pub const DOMAIN: &str = "hotpath.kernels";

/// Version of the domain. It changes with any result.
pub const VERSION: u32 = 2;

/// The environment variable that names the path of the operators that Python registers, as it does the hot path's.
const PATH: &str = "HOTPATH_KERNELS";

/// All operators, by one path.
///
/// # Errors
/// When ONNX Runtime refuses.
pub fn domain(path: Path) -> Result<OperatorDomain> {
    OperatorDomain::new(DOMAIN)?
        .add(product::MatMulQ(path))?
        .add(product::NormMatMulQ(path))?
        .add(gather::GatherQ)?
        .add(attention::CachedAttention(path))?
        .add(encoder::LayerNormMatMulQ(path))?
        .add(encoder::AddLayerNorm(path))?
        .add(encoder::PackedAttention(path))
}

/// [`VERSION`], for a reader that must not take a library of another one.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub extern "C" fn hotpath_kernels_version() -> u32 {
    VERSION
}

/// What Python's `SessionOptions.register_custom_ops_library` calls.
///
/// # Safety
/// ONNX Runtime calls it, with its own structures.
#[allow(unsafe_code, non_snake_case)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RegisterCustomOps(
    options: *mut sys::OrtSessionOptions,
    base: *const sys::OrtApiBase,
) -> sys::OrtStatusPtr {
    struct Registered(OperatorDomain);
    // SAFETY: after it was made it is never changed.
    unsafe impl Send for Registered {}
    // SAFETY: as above.
    unsafe impl Sync for Registered {}
    static REGISTERED: OnceLock<std::result::Result<Registered, String>> = OnceLock::new(); // sessions need it as long as they live

    // SAFETY: the base and its tables are ONNX Runtime's, and live as long as the process.
    unsafe {
        let api = ((*base).GetApi)(sys::ORT_API_VERSION);
        let fail = |why: String| {
            let why = CString::new(why).unwrap_or_default();
            // The first version has the same beginning as all.
            ((*((*base).GetApi)(1)).CreateStatus)(sys::OrtErrorCode::ORT_FAIL, why.as_ptr())
        };
        if api.is_null() {
            return fail(format!("the kernels need an ONNX Runtime of API version {} or later", sys::ORT_API_VERSION));
        }
        let made = catch_unwind(|| {
            // Before anything else of `ort`, which would look for a library of its own.
            ort::set_api(ptr::read(api));
            REGISTERED.get_or_init(|| {
                let path = match env::var(PATH) {
                    Ok(name) if name != "auto" => Path::named(&name).map_err(|error| format!("{PATH}: {error}"))?,
                    _ => Path::best(),
                };
                domain(path).map(Registered).map_err(|error| error.to_string())
            })
        });
        match made {
            Ok(Ok(registered)) => ((*api).AddCustomOpDomain)(options, registered.0.ptr().cast_mut()),
            Ok(Err(why)) => fail(why.clone()),
            Err(_) => fail("the registration panicked".to_owned()),
        }
    }
}
