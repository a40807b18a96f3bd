//! Which graph of a bundle runs here, and whether a loaded one is what the manifest says.

use hotpath_bundle::{Axis, CpuFeature, ElementType, Graph, Precision, Refused, Tensor};
use ort::{
    session::Session,
    value::{Outlet, TensorElementType, ValueType},
};

/// Whether this machine's processor has a feature.
#[must_use]
pub fn cpu_has(feature: CpuFeature) -> bool {
    match feature {
        CpuFeature::Unspecified => false,
        CpuFeature::None => true,
        CpuFeature::Int8DotProduct => int8_dot_product(),
    }
}

#[cfg(target_arch = "x86_64")]
fn int8_dot_product() -> bool {
    std::arch::is_x86_feature_detected!("avx512vnni") || std::arch::is_x86_feature_detected!("avxvnni")
}

#[cfg(target_arch = "aarch64")]
fn int8_dot_product() -> bool {
    std::arch::is_aarch64_feature_detected!("dotprod")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn int8_dot_product() -> bool {
    false
}

/// What this machine's processor has of what decides which graphs are fast and which kernels run them, for people: as in
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

/// A graph of a bundle, and why it is the one to run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// Why, for operators.
    pub reason: &'static str,
}

/// The graph to run: of the wanted precision, or else the first whose feature the processor has. Never one in 4-bit blocks,
/// which older bundles have: where AVX2 is all that a processor has, a row's last bits depend on its batch there.
///
/// # Errors
/// [`Refused`] when the bundle has no such graph.
pub fn choose(
    graphs: &[Graph],
    wanted: Option<Precision>,
    cpu_has: impl Fn(CpuFeature) -> bool,
) -> Result<Choice<'_>, Refused> {
    let fits = |graph: &&Graph| {
        graph.precision != Precision::Int4Block
            && wanted.map_or_else(|| cpu_has(graph.cpu_feature), |wanted| graph.precision == wanted)
    };
    let problem = || match wanted {
        None => "none runs well on this processor; export the model anew, or ask for one by its precision".to_owned(),
        Some(wanted) => format!("none has {}", wanted.as_str_name()),
    };
    let graph = graphs.iter().find(fits).ok_or_else(|| Refused::manifest("graphs", problem()))?;
    let reason = match (wanted, graph.cpu_feature) {
        (Some(_), _) => "a setting asks for it",
        (None, CpuFeature::Int8DotProduct) => "the processor has an int8 dot product",
        (None, _) if graphs.iter().any(|graph| !cpu_has(graph.cpu_feature)) => {
            "the processor has no int8 dot product, and this runs well without"
        }
        (None, _) => "it is the first in the manifest, and runs well on any processor",
    };
    Ok(Choice { graph, reason })
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
        TensorElementType::Float32 => Some(ElementType::Float32),
        TensorElementType::Int32 => Some(ElementType::Int32),
        TensorElementType::Int64 => Some(ElementType::Int64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hotpath_bundle::Tolerance;

    use super::*;

    fn graph(precision: Precision, cpu_feature: CpuFeature) -> Graph {
        let tolerance = Tolerance { max_abs_error: 1.0, min_cosine: 0.5 };
        let file = precision.as_str_name().to_owned();
        Graph { precision, file, opset: 18, cpu_feature, inputs: vec![], outputs: vec![], tolerance }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn an_emulated_processor_promises_bits_without_a_dot_product() {
        if std::env::var_os("TRIPTYCH_EMULATOR").is_some() {
            assert!(!cpu_has(CpuFeature::Int8DotProduct), "it is not that of `make test-avx2`, or not emulated at all");
        }
    }

    #[test]
    fn why_a_graph_was_chosen_is_said_on_each_class_of_processors() {
        let (int8, fp32) = (Precision::Int8, Precision::Fp32);
        let graphs = [graph(int8, CpuFeature::Int8DotProduct), graph(fp32, CpuFeature::None)];
        let plain = |feature| feature == CpuFeature::None;
        let chosen = |graphs, wanted, has: &dyn Fn(CpuFeature) -> bool| {
            let choice = choose(graphs, wanted, has).unwrap();
            (choice.graph.precision, choice.reason)
        };
        assert_eq!(chosen(&graphs, None, &|_| true), (int8, "the processor has an int8 dot product"));
        let without = "the processor has no int8 dot product, and this runs well without";
        assert_eq!(chosen(&graphs, None, &plain), (fp32, without));
        assert_eq!(chosen(&graphs, Some(fp32), &|_| true), (fp32, "a setting asks for it"));
        assert_eq!(chosen(&graphs, Some(int8), &plain), (int8, "a setting asks for it"));
        let only = "it is the first in the manifest, and runs well on any processor";
        assert_eq!(chosen(&graphs[1..], None, &plain), (fp32, only));
        assert_eq!(chosen(&graphs[1..], None, &|_| true), (fp32, only));
    }

    #[test]
    fn the_processor_s_features_are_those_that_graphs_are_chosen_by() {
        let said = processor();
        assert!(said.starts_with(std::env::consts::ARCH), "{said}");
        let dot_product = ["vnni", "dotprod"].iter().any(|name| said.contains(name));
        assert_eq!(dot_product, cpu_has(CpuFeature::Int8DotProduct), "{said}");
    }

    #[test]
    fn the_first_graph_that_the_processor_runs_well_is_chosen() {
        let graphs = [graph(Precision::Int8, CpuFeature::Int8DotProduct), graph(Precision::Fp32, CpuFeature::None)];
        let precision = |wanted, has: &dyn Fn(CpuFeature) -> bool| {
            choose(&graphs, wanted, has).map(|chosen| chosen.graph.precision)
        };
        let plain = |feature| feature == CpuFeature::None;
        assert_eq!(precision(None, &|_| true), Ok(Precision::Int8));
        assert_eq!(precision(None, &plain), Ok(Precision::Fp32));
        assert_eq!(precision(Some(Precision::Int8), &plain), Ok(Precision::Int8), "a wish is obeyed");
        assert!(choose(&graphs[..1], None, plain).is_err());
        assert!(choose(&graphs[..1], Some(Precision::Fp32), |_| true).is_err());
        assert!(choose(&[graph(Precision::Int4Block, CpuFeature::None)], None, |_| true).is_err());
    }
}
