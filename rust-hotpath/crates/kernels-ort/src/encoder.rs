//! `LayerNormMatMulQ`, `AddLayerNorm` and `PackedAttention`, of which encoders are made.

#![allow(unsafe_code)]

use hotpath_kernels::{
    Matrix, Path,
    encoder::{Activation, LayerNorm, attend_texts, layer_norm, multiply_and_activate},
};
use ort::{
    Error, Result,
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

use crate::{
    VERSION,
    attention::MOST,
    context::{Memory, Threads, apart, attribute, fenced, input, output},
    product::{activation, float, matrix},
    scratch,
};

/// The attributes of a layer norm.
struct Norm {
    epsilon: f32,
    channels: usize,
}

impl Norm {
    fn of(context: &KernelContext<'_>) -> Result<Self> {
        let epsilon = context.get::<f32>("epsilon").ok_or_else(|| Error::new("attribute epsilon is missing"))?;
        Ok(Self { epsilon, channels: attribute(context, "channels")? })
    }

    /// The inputs of a node: `x`, `addend`, weight and bias, if all fit.
    fn inputs(&self, context: &ComputeContext) -> Result<[Memory<f32>; 4]> {
        let mut inputs = [input(context, 0)?; 4];
        for (index, input_at) in inputs.iter_mut().enumerate() {
            *input_at = input(context, index)?;
        }
        let [x, addend, weight, bias] = inputs.map(Memory::len);
        let fits = addend == x && bias == weight && weight.is_multiple_of(8) && (1..=weight).contains(&self.channels);
        if !fits || !x.is_multiple_of(weight) {
            let problem =
                format!("x, addend, weight and bias are not of one width that {} channels fit into", self.channels);
            return Err(Error::new(problem));
        }
        Ok(inputs)
    }

    fn with<'a>(&self, weight: &'a [f32], bias: &'a [f32]) -> LayerNorm<'a> {
        LayerNorm { weight, bias, epsilon: self.epsilon, channels: self.channels }
    }
}

pub(crate) struct LayerNormMatMulQ(pub Path);

pub(crate) struct LayerNormMatMulKernel<'a> {
    path: Path,
    norm: Norm,
    weights: Matrix<'a>,
    activation: Activation,
}

impl Operator for LayerNormMatMulQ {
    type Kernel<'a> = LayerNormMatMulKernel<'a>;

    fn name(&self) -> &'static str {
        "LayerNormMatMulQ"
    }

    fn versions(&self) -> std::ops::RangeInclusive<u32> {
        VERSION..=VERSION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let weights = OperatorInput::required(TensorElementType::Uint8);
        [float(), float(), float(), float(), weights, float()]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [(); 2].map(|()| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> Result<LayerNormMatMulKernel<'a>> {
        fenced(|| {
            let (norm, weights) = (Norm::of(context)?, matrix(context, 4)?);
            Ok(LayerNormMatMulKernel { path: self.0, norm, weights, activation: activation(context)? })
        })
    }
}

impl Kernel for LayerNormMatMulKernel<'_> {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        fenced(|| {
            let (path, weights) = (self.path, &self.weights);
            let [x, addend, weight, shift] = self.norm.inputs(context)?;
            let bias = input::<f32>(context, 5)?;
            let (size, outputs) = (weights.inputs(), weights.outputs());
            if weight.len() != size || bias.len() != outputs {
                return Err(Error::new("the rows or the bias do not fit the weights"));
            }
            let rows = x.len() / size;
            let (y, normed) = (output(context, 0, &[rows, outputs])?, output(context, 1, &[rows, size])?);
            apart(&[y.place(), normed.place()], &[x, addend, weight, shift, bias].map(Memory::place))?;
            // SAFETY: all are the run's, and what is written is apart from all else.
            let (x, addend, norm, bias, normed, y) = unsafe {
                let norm = self.norm.with(weight.read(), shift.read());
                (x.read(), addend.read(), norm, bias.read(), normed.write(), y.write())
            };
            scratch::with(|quantized| {
                let threads = &Threads(context);
                quantized.quantize_layer_normed(path, (x, addend), &norm, normed, threads);
                multiply_and_activate(path, quantized, weights, (bias, self.activation), y, threads);
            });
            Ok(())
        })
    }
}

pub(crate) struct AddLayerNorm(pub Path);

pub(crate) struct AddLayerNormKernel {
    path: Path,
    norm: Norm,
}

impl Operator for AddLayerNorm {
    type Kernel<'a> = AddLayerNormKernel;

    fn name(&self) -> &'static str {
        "AddLayerNorm"
    }

    fn versions(&self) -> std::ops::RangeInclusive<u32> {
        VERSION..=VERSION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [float(), float(), float(), float()]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel(&self, context: &KernelContext<'_>) -> Result<AddLayerNormKernel> {
        fenced(|| Ok(AddLayerNormKernel { path: self.0, norm: Norm::of(context)? }))
    }
}

impl Kernel for AddLayerNormKernel {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        fenced(|| {
            let [x, addend, weight, bias] = self.norm.inputs(context)?;
            let size = weight.len();
            let y = output(context, 0, &[x.len() / size, size])?;
            apart(&[y.place()], &[x, addend, weight, bias].map(Memory::place))?;
            // SAFETY: all are the run's, and what is written is apart.
            let (x, addend, norm, y) =
                unsafe { (x.read(), addend.read(), self.norm.with(weight.read(), bias.read()), y.write()) };
            layer_norm(self.path, x, addend, &norm, y);
            Ok(())
        })
    }
}

pub(crate) struct PackedAttention(pub Path);

pub(crate) struct PackedAttentionKernel {
    path: Path,
    heads: usize,
    size: usize,
}

impl Operator for PackedAttention {
    type Kernel<'a> = PackedAttentionKernel;

    fn name(&self) -> &'static str {
        "PackedAttention"
    }

    fn versions(&self) -> std::ops::RangeInclusive<u32> {
        VERSION..=VERSION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [float(), OperatorInput::required(TensorElementType::Int64)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel(&self, context: &KernelContext<'_>) -> Result<PackedAttentionKernel> {
        fenced(|| {
            let (heads, size) = (attribute(context, "heads")?, attribute(context, "head_dim")?);
            if ![heads, size].iter().all(|number| (1..=MOST).contains(number)) {
                return Err(Error::new(format!("{heads} heads of {size}: each must be from 1 to {MOST}")));
            }
            Ok(PackedAttentionKernel { path: self.0, heads, size })
        })
    }
}

impl Kernel for PackedAttentionKernel {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        fenced(|| {
            let (x, positions) = (input::<f32>(context, 0)?, input::<i64>(context, 1)?);
            let y = output(context, 0, &[positions.len(), self.heads * self.size])?;
            apart(&[y.place()], &[x.place(), positions.place()])?;
            // SAFETY: all are the run's, and what is written is apart.
            let (x, positions, y) = unsafe { (x.read(), positions.read(), y.write()) };
            attend_texts(self.path, (self.heads, self.size), x, positions, y, &Threads(context))
                .map_err(|error| Error::new(error.to_string()))
        })
    }
}
