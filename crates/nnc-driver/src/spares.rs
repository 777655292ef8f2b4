//! Buffers of tensors that have become others, whose memory the next ones take: memory that the system hands out anew
//! is cleared first, which takes longer than turning a matrix does.

use nnc_graph::Tensor;
use nnc_runtime::{AlignedBuffer, HUGE_PAGE};

/// At most one buffer of a huge page or more, of which any other such takes the memory, and one smaller.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    large: Option<AlignedBuffer>,
    small: Option<AlignedBuffer>,
}

impl Spares {
    /// A buffer that holds anything.
    pub(crate) fn take(&mut self, bytes: usize) -> AlignedBuffer {
        let spare = match bytes >= HUGE_PAGE {
            true => self.large.take(),
            false => self.small.take_if(|spare| spare.len() == bytes),
        };
        spare.map_or_else(|| AlignedBuffer::zeroed(bytes), |spare| AlignedBuffer::from_spare(spare, bytes))
    }

    /// Keeps the buffer of a tensor, if nobody else has it.
    pub(crate) fn keep(&mut self, tensor: Tensor) {
        if let Ok(buffer) = tensor.into_owner::<AlignedBuffer>() {
            let place = if buffer.len() >= HUGE_PAGE { &mut self.large } else { &mut self.small };
            *place = Some(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nnc_graph::DType;

    #[test]
    fn a_buffer_comes_again_where_its_memory_fits() {
        let mut spares = Spares::default();
        let tensor = |bytes: usize, value: u8| {
            let mut buffer = AlignedBuffer::zeroed(bytes);
            buffer.bytes_mut().fill(value);
            Tensor::from_bytes(DType::U8, &[bytes], buffer).unwrap()
        };
        for (value, bytes) in [100, 3 * HUGE_PAGE].into_iter().enumerate() {
            spares.keep(tensor(bytes, value as u8 + 1));
        }
        assert_eq!(spares.take(99).bytes(), [0; 99]);
        assert_eq!(spares.take(100).bytes(), [1; 100]);
        assert_eq!(spares.take(100).bytes(), [0; 100], "it is taken");
        assert!(spares.take(2 * HUGE_PAGE).bytes().iter().all(|&byte| byte == 2));
        let shared = tensor(100, 3);
        spares.keep(shared.clone());
        assert_eq!(spares.take(100).bytes(), [0; 100], "somebody else has it");
        assert_eq!(shared.bytes(), [3; 100]);
    }
}
