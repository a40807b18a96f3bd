//! `GatherQ`: rows of a table that a `MatMulQ` may multiply with as well.

#![allow(unsafe_code)]

use hotpath_kernels::Matrix;
use ort::{
    Error, Result,
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

use crate::{
    VERSION,
    context::{apart, attribute, fenced, input, output},
    product::matrix,
};

pub(crate) struct GatherQ;

pub(crate) struct GatherKernel<'a> {
    table: Matrix<'a>,
    /// Of the table, which may have more to fill its last tile up.
    rows: usize,
}

impl Operator for GatherQ {
    type Kernel<'a> = GatherKernel<'a>;

    fn name(&self) -> &'static str {
        "GatherQ"
    }

    fn versions(&self) -> std::ops::RangeInclusive<u32> {
        VERSION..=VERSION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(TensorElementType::Int64), OperatorInput::required(TensorElementType::Uint8)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> Result<GatherKernel<'a>> {
        fenced(|| {
            let table = matrix(context, 1)?;
            let rows = if context.get::<i64>("rows").is_some() { attribute(context, "rows")? } else { table.outputs() };
            if rows > table.outputs() {
                return Err(Error::new(format!("attribute rows is {rows}, and there are {}", table.outputs())));
            }
            Ok(GatherKernel { table, rows })
        })
    }
}

impl Kernel for GatherKernel<'_> {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        fenced(|| {
            let (ids, size, rows) = (input::<i64>(context, 0)?, self.table.inputs(), self.rows);
            let y = output(context, 0, &[ids.len(), size])?;
            apart(&[y.place()], &[ids.place()])?;
            // SAFETY: both are the run's, and apart.
            let (ids, y) = unsafe { (ids.read(), y.write()) };
            for (id, to) in ids.iter().zip(y.chunks_exact_mut(size)) {
                let row = usize::try_from(*id).ok().filter(|row| *row < rows);
                let row = row.ok_or_else(|| Error::new(format!("id {id} is not among {rows} rows")))?;
                self.table.row(row, to);
            }
            Ok(())
        })
    }
}
