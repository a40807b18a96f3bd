//! Whether a loaded graph is what the manifest says, and what this processor has.

use hotpath_bundle::{Axis, ElementType, Graph, Refused, Tensor};
use ort::{
    session::Session,
    value::{Outlet, TensorElementType, ValueType},
};

/// What this machine's processor has of what decides which kernels run graphs, for people: as in
/// "x86_64 with avx2, avx512f, avx512vnni".
#[must_use]
pub fn processor() -> String {
    let features: Vec<&str> = features().into_iter().filter_map(|(name, has)| has.then_some(name)).collect();
    format!(
        "{} with {}",
        std::env::consts::ARCH,
        if features.is_empty() { "none".to_owned() } else { features.join(", ") }
    )
}

#[cfg(target_arch = "x86_64")]
fn features() -> [(&'static str, bool); 4] {
    [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avxvnni", std::arch::is_x86_feature_detected!("avxvnni")),
        ("avx512vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
    ]
}

#[cfg(target_arch = "aarch64")]
fn features() -> [(&'static str, bool); 3] {
    [
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
        ("sve", std::arch::is_aarch64_feature_detected!("sve")),
    ]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> [(&'static str, bool); 0] {
    []
}

/// The error for a graph that is not what runs it takes it for.
pub(crate) fn unknown(graph: &Graph, side: &str, problem: String) -> Refused {
    Refused::manifest(format!("graphs: {}: {side}", graph.file), problem)
}

/// Holds a loaded graph against the manifest: the same inputs and outputs, in the same order.
pub(crate) fn compare(graph: &Graph, session: &Session) -> Result<(), Refused> {
    compare_all(&graph.file, "inputs", &graph.inputs, session.inputs())?;
    compare_all(&graph.file, "outputs", &graph.outputs, session.outputs())
}

fn compare_all(file: &str, side: &str, manifest: &[Tensor], loaded: &[Outlet]) -> Result<(), Refused> {
    let refuse = |field: String, problem: String| Err(Refused::field(file, field, problem));
    if manifest.len() != loaded.len() {
        let problem = format!("the graph has {}, the manifest {}", loaded.len(), manifest.len());
        return refuse(side.to_owned(), problem);
    }
    for (i, (tensor, outlet)) in manifest.iter().zip(loaded).enumerate() {
        let field = |name: &str| format!("{side}[{i}].{name}");
        if outlet.name() != tensor.name {
            let problem = format!("the graph has \"{}\", the manifest \"{}\"", outlet.name(), tensor.name);
            return refuse(field("name"), problem);
        }
        let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
            return refuse(field("element_type"), "the graph has no tensor here".to_owned());
        };
        if element_type(*ty) != Some(tensor.element_type) {
            let problem = format!("the graph has {ty}, the manifest {}", tensor.element_type.as_str_name());
            return refuse(field("element_type"), problem);
        }
        let axes = shape
            .iter()
            .zip(dimension_symbols.iter())
            .map(|(size, symbol)| u32::try_from(*size).map_or_else(|_| Axis::Symbolic(symbol.clone()), Axis::Fixed));
        let axes: Vec<Axis> = axes.collect();
        if axes != tensor.shape {
            return refuse(field("shape"), format!("the graph has {axes:?}, the manifest {:?}", tensor.shape));
        }
    }
    Ok(())
}

fn element_type(loaded: TensorElementType) -> Option<ElementType> {
    match loaded {
        TensorElementType::Float16 => Some(ElementType::Float16),
        TensorElementType::Float32 => Some(ElementType::Float32),
        TensorElementType::Int32 => Some(ElementType::Int32),
        TensorElementType::Int64 => Some(ElementType::Int64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn bits_are_emulated_without_a_dot_product() {
        if std::env::var_os("TRIPTYCH_EMULATOR").is_some() {
            assert!(!processor().contains("vnni"), "it is not that of `make test-avx2`, or not emulated at all");
        }
    }

    #[test]
    fn a_processor_is_named_by_its_architecture() {
        assert!(processor().starts_with(std::env::consts::ARCH), "{}", processor());
    }
}
