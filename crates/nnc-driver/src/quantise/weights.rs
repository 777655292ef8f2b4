//! Weights as integers: one symmetric scale for each output channel.

use crate::bench::failed;
use crate::compiled::Compiler;
use crate::error::DriverError;
use crate::store::Store;
use nnc_graph::{DType, Graph, Tensor, ValueId};
use nnc_opt::quantise::{Site, WEIGHT_LEVELS};
use nnc_opt::rewrite::with_results;

/// Weights and their scales.
#[derive(Clone, Debug)]
pub struct Quantised {
    /// i8, as the weights of the site.
    pub weights: Tensor,
    /// f32, one for each output channel.
    pub scales: Tensor,
}

/// The weights of sites as the graph computes them, in order.
///
/// # Errors
/// What cannot be compiled or run.
pub fn floats(
    graph: &Graph,
    sites: &[Site],
    (compiler, store): (&Compiler, &mut Store),
) -> Result<Vec<Tensor>, DriverError> {
    let name = |at: usize| format!("w{at}");
    let results: Vec<(String, ValueId)> = sites.iter().enumerate().map(|(at, site)| (name(at), site.weights)).collect();
    let mut program = compiler.compile(&with_results(graph, &results))?;
    program.run(store).map_err(failed)?;
    let tensor = |at: usize| {
        program.output_tensor(&name(at)).ok_or_else(|| DriverError::Internal("weights were not computed".to_owned()))
    };
    (0..sites.len()).map(tensor).collect()
}

/// Rounds weights to the nearest of 129 numbers in each channel, ties to even; `None` if one is no finite number. A
/// channel of zeros has scale 0.
pub fn quantise(site: &Site, weights: &Tensor) -> Option<Quantised> {
    let dims = weights.dims();
    let values = weights.to_f64();
    let channel = |at: usize| site.channel_of(dims, at);
    let mut largest = vec![0f64; site.channels];
    for (at, value) in values.iter().enumerate() {
        largest[channel(at)] = largest[channel(at)].max(value.abs());
        if !value.is_finite() {
            return None;
        }
    }
    let scales: Vec<f64> = largest.iter().map(|largest| largest / f64::from(WEIGHT_LEVELS)).collect();
    // In f32, as programs round that were trained so.
    let number = |(at, value): (usize, &f64)| match scales[channel(at)] as f32 {
        0.0 => 0.0,
        scale => f64::from((*value as f32 / scale).round_ties_even()),
    };
    let numbers: Vec<f64> = values.iter().enumerate().map(number).collect();
    Some(Quantised {
        weights: Tensor::from_f64(DType::I8, dims, &numbers),
        scales: Tensor::from_f64(DType::F32, &[site.channels], &scales),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nnc_graph::{NodeId, ValueId};

    #[test]
    fn each_channel_has_its_scale() {
        let weights = Tensor::from_f64(DType::F32, &[2, 3], &[1.0, -2.0, 0.5, 0.0, 0.0, 254.0]);
        let site = Site {
            name: "a".to_owned(),
            node: NodeId(0),
            input: ValueId(0),
            mark: 0,
            weights: ValueId(1),
            channel_axis: 0,
            channels: 2,
            groups: 1,
            elements: 6,
            depth: 3,
            is_single: false,
            products: 6,
        };
        let made = quantise(&site, &weights).unwrap();
        assert_eq!(made.weights.to_i64(), [32, -64, 16, 0, 0, 64]);
        assert_eq!(made.scales.to_f64()[1], 254.0 / 64.0);
        let columns = Site { channel_axis: 1, channels: 3, ..site };
        let made = quantise(&columns, &weights).unwrap();
        assert_eq!(made.weights.to_i64(), [64, -64, 0, 0, 0, 64]);
    }
}
