//! `MatMulQ` and `NormMatMulQ`.

#![allow(unsafe_code)]

use hotpath_kernels::{
    Bits, Matrix, Normed, Path, TILE,
    encoder::{Activation, multiply_and_activate},
    multiply, multiply_gated,
};
use ort::{
    Error, Result,
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

use crate::{
    VERSION,
    context::{Memory, Threads, apart, attribute, constant, fenced, input, optional_input, optional_output, output},
    scratch,
};

/// The constant weights of a node.
pub(crate) fn matrix<'a>(context: &KernelContext<'a>, index: usize) -> Result<Matrix<'a>> {
    let bits = match attribute(context, "bits")? {
        4 => Bits::Four,
        8 => Bits::Eight,
        other => return Err(Error::new(format!("attribute bits is {other}, and not 4 or 8"))),
    };
    let (inputs, outputs) = (attribute(context, "K")?, attribute(context, "N")?);
    Matrix::new(bits, inputs, outputs, constant(context, index)?).map_err(|error| Error::new(error.to_string()))
}

/// Whole rows of a length.
pub(crate) fn rows(numbers: usize, length: usize) -> Result<usize> {
    if numbers.is_multiple_of(length) {
        return Ok(numbers / length);
    }
    Err(Error::new(format!("{numbers} numbers are no rows of {length}")))
}

pub(crate) fn float() -> OperatorInput {
    OperatorInput::required(TensorElementType::Float32)
}

/// What is made of a product and its bias.
pub(crate) fn activation(context: &KernelContext<'_>) -> Result<Activation> {
    match context.get::<i64>("gelu") {
        None | Some(0) => Ok(Activation::None),
        Some(1) => Ok(Activation::Gelu),
        Some(other) => Err(Error::new(format!("attribute gelu is {other}, and not 0 or 1"))),
    }
}

pub(crate) struct MatMulQ(pub Path);

pub(crate) struct MatMulKernel<'a> {
    path: Path,
    weights: Matrix<'a>,
    activation: Activation,
}

impl Operator for MatMulQ {
    type Kernel<'a> = MatMulKernel<'a>;

    fn name(&self) -> &'static str {
        "MatMulQ"
    }

    fn versions(&self) -> std::ops::RangeInclusive<u32> {
        VERSION..=VERSION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let bias = OperatorInput::optional(TensorElementType::Float32);
        [float(), OperatorInput::required(TensorElementType::Uint8), bias]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> Result<MatMulKernel<'a>> {
        fenced(|| Ok(MatMulKernel { path: self.0, weights: matrix(context, 1)?, activation: activation(context)? }))
    }
}

impl Kernel for MatMulKernel<'_> {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        fenced(|| {
            let (x, inputs) = (input::<f32>(context, 0)?, self.weights.inputs());
            let bias = optional_input::<f32>(context, 2)?;
            let outputs = self.weights.outputs();
            if bias.map_or(self.activation != Activation::None, |bias| bias.len() != outputs) {
                return Err(Error::new("the bias does not fit the weights, or there is none to be activated"));
            }
            let y = output(context, 0, &[rows(x.len(), inputs)?, outputs])?;
            apart(&[y.place()], &[x.place(), bias.map_or(0..0, Memory::place)])?;
            // SAFETY: all are the run's, and what is written is apart.
            let (x, bias, y) = unsafe { (x.read(), bias.map(|bias| bias.read()), y.write()) };
            scratch::with(|quantized| {
                let (path, weights, threads) = (self.path, &self.weights, &Threads(context));
                quantized.quantize(path, x, inputs, threads);
                match bias {
                    None => multiply(path, quantized, weights, y, threads),
                    Some(bias) => multiply_and_activate(path, quantized, weights, (bias, self.activation), y, threads),
                }
            });
            Ok(())
        })
    }
}

pub(crate) struct NormMatMulQ(pub Path);

pub(crate) struct NormMatMulKernel<'a> {
    path: Path,
    weights: Matrix<'a>,
    epsilon: f32,
    gated: bool,
}

impl Operator for NormMatMulQ {
    type Kernel<'a> = NormMatMulKernel<'a>;

    fn name(&self) -> &'static str {
        "NormMatMulQ"
    }

    fn versions(&self) -> std::ops::RangeInclusive<u32> {
        VERSION..=VERSION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let addend = OperatorInput::optional(TensorElementType::Float32);
        [float(), addend, float(), OperatorInput::required(TensorElementType::Uint8)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32), OperatorOutput::optional(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> Result<NormMatMulKernel<'a>> {
        fenced(|| {
            let weights = matrix(context, 3)?;
            let gated = attribute(context, "gated")? != 0;
            let epsilon = context.get::<f32>("epsilon").ok_or_else(|| Error::new("attribute epsilon is missing"))?;
            if gated && !weights.outputs().is_multiple_of(2 * TILE) {
                return Err(Error::new(format!("{} outputs are no pairs of tiles", weights.outputs())));
            }
            Ok(NormMatMulKernel { path: self.0, weights, epsilon, gated })
        })
    }
}

impl Kernel for NormMatMulKernel<'_> {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        fenced(|| {
            let (x, weight) = (input::<f32>(context, 0)?, input::<f32>(context, 2)?);
            let addend = optional_input::<f32>(context, 1)?;
            let size = self.weights.inputs();
            let rows = rows(x.len(), size)?;
            if addend.is_some_and(|addend| addend.len() != x.len()) || weight.len() != size {
                return Err(Error::new("x, addend and norm are not of one width"));
            }
            let outputs = if self.gated { self.weights.outputs() / 2 } else { self.weights.outputs() };
            let y = output(context, 0, &[rows, outputs])?;
            let stream = optional_output(context, 1, &[rows, size])?;
            let [stream_at, addend_at] = [stream, addend].map(|some| some.map_or(0..0, Memory::place));
            apart(&[y.place(), stream_at], &[x.place(), weight.place(), addend_at])?;
            // SAFETY: all are the run's, and what is written is apart from all else.
            let (x, weight, addend, stream, y) = unsafe {
                let (addend, stream) = (addend.map(|addend| addend.read()), stream.map(|stream| stream.write()));
                (x.read(), weight.read(), addend, stream, y.write())
            };
            scratch::with(|quantized| {
                let (path, epsilon, weights, threads) = (self.path, self.epsilon, &self.weights, &Threads(context));
                quantized.quantize_normed(path, Normed { x, addend, sums: stream, weight, epsilon }, threads);
                if self.gated {
                    multiply_gated(path, quantized, weights, y, threads);
                } else {
                    multiply(path, quantized, weights, y, threads);
                }
            });
            Ok(())
        })
    }
}
