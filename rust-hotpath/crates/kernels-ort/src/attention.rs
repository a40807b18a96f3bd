//! `CachedAttention`.

#![allow(unsafe_code)]

use half::f16;
use hotpath_kernels::{
    Path,
    attention::{Appended, Heads, append_and_attend},
};
use ort::{
    Error, Result,
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

use crate::{
    VERSION,
    context::{Memory, Threads, apart, attribute, fenced, input, input_and_rows, output},
};

/// Heads, and numbers of each, that a node may have.
pub(crate) const MOST: usize = 1 << 16;

pub(crate) struct CachedAttention(pub Path);

pub(crate) struct AttentionKernel {
    path: Path,
    heads: Heads,
}

impl Operator for CachedAttention {
    type Kernel<'a> = AttentionKernel;

    fn name(&self) -> &'static str {
        "CachedAttention"
    }

    fn versions(&self) -> std::ops::RangeInclusive<u32> {
        VERSION..=VERSION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let (float, cache, place) = (TensorElementType::Float32, TensorElementType::Float16, TensorElementType::Int32);
        [float, cache, cache, place, place, float, float].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        let cache = TensorElementType::Float16;
        [TensorElementType::Float32, cache, cache].map(OperatorOutput::required)
    }

    fn create_kernel(&self, context: &KernelContext<'_>) -> Result<AttentionKernel> {
        fenced(|| {
            let heads = Heads {
                queries: attribute(context, "heads")?,
                shared: attribute(context, "kv_heads")?,
                size: attribute(context, "head_dim")?,
            };
            // What is beyond is no model, and its products would be beyond 64 bits.
            let fits = [heads.queries, heads.shared, heads.size].iter().all(|number| (1..=MOST).contains(number));
            if !fits {
                return Err(Error::new(format!("{heads:?}: each must be from 1 to {MOST}")));
            }
            Ok(AttentionKernel { path: self.0, heads })
        })
    }
}

impl Kernel for AttentionKernel {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        fenced(|| self.run(context))
    }
}

impl AttentionKernel {
    fn run(&self, context: &ComputeContext) -> Result<()> {
        let Heads { queries, shared, size } = self.heads;
        let (rows, cosines, sines) = (input(context, 0)?, input(context, 5)?, input(context, 6)?);
        let (sequences, positions) = (input::<i32>(context, 3)?, input::<i32>(context, 4)?);
        let (past_keys, slots) = input_and_rows::<f16>(context, 1)?;
        let past_values = input::<f16>(context, 2)?;
        let to = output(context, 0, &[positions.len(), queries * size])?;
        let capacity = past_keys.len() / (slots * shared * size).max(1);
        let cache = [slots, shared, capacity, size];
        let (keys, values) = (output::<f16>(context, 1, &cache)?, output::<f16>(context, 2, &cache)?);
        if past_keys.len() != keys.len() || past_values.len() != values.len() {
            return Err(Error::new("the cache does not fit the heads"));
        }
        // Where past and present are one, they are the present alone.
        let past = |past: Memory<f16>, present: Memory<f16>| {
            if past.place() == present.place() { 0..0 } else { past.place() }
        };
        let inputs = [
            rows.place(),
            sequences.place(),
            positions.place(),
            cosines.place(),
            sines.place(),
            past(past_keys, keys),
            past(past_values, values),
        ];
        apart(&[to.place(), keys.place(), values.place()], &inputs)?;
        // SAFETY: these are the run's, past and present are as long and apart, and whatever is written is apart from all else.
        let (appended, to) = unsafe {
            for (past, present) in [(past_keys, keys), (past_values, values)] {
                if past.place() != present.place() {
                    present.copy(past);
                }
            }
            let appended = Appended {
                rows: rows.read(),
                sequences: sequences.read(),
                positions: positions.read(),
                keys: keys.write(),
                values: values.write(),
                cosines: cosines.read(),
                sines: sines.read(),
            };
            (appended, to.write())
        };
        append_and_attend(self.path, self.heads, slots, appended, to, &Threads(context))
            .map_err(|error| Error::new(error.to_string()))
    }
}
