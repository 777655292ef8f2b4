//! The order in which the elements of images lie that a node works on, read off the graph after the pass.

use nnc_graph::{Graph, Node, Op, ValueId, channels_first};

/// Where the channels of an image lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// `[N, C, ...X]`: each channel is an image of its own.
    ChannelsFirst,
    /// `[N, ...X, C]`: the channels of a place lie side by side.
    ChannelsLast,
}

impl Order {
    /// The words in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChannelsFirst => "channels first",
            Self::ChannelsLast => "channels last",
        }
    }

    /// That of the image which a convolution, its transposes or windows read; `None` of other nodes. A transpose in
    /// front is a view: what lies in memory is behind it.
    pub fn of(graph: &Graph, node: &Node) -> Option<Self> {
        match &node.op {
            Op::ConvLast(_) | Op::ConvInputGradLast { .. } => Some(Self::ChannelsLast),
            Op::Conv(_)
            | Op::ConvInputGrad { .. }
            | Op::ConvWeightGrad { .. }
            | Op::Window { .. }
            | Op::WindowGrad { .. }
            | Op::WindowPick(_) => Some(Self::of_value(graph, node.operands[0])),
            _ => None,
        }
    }

    /// That of a value `[N, C, ...X]`.
    fn of_value(graph: &Graph, value: ValueId) -> Self {
        let is_turned = match &graph.definition(value).op {
            Op::Transpose(axes) => *axes == channels_first(axes.len()),
            _ => false,
        };
        if is_turned { Self::ChannelsLast } else { Self::ChannelsFirst }
    }
}
