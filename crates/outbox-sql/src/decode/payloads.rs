//! Payloads, many to an allocation.

use bytes::{Bytes, BytesMut};

/// Small enough to be given back soon: a block lives as long as one of its payloads, and those of a page are done with
/// at about the same time.
const BLOCK: usize = 64 << 10;

/// Copies payloads into blocks: allocating each by itself costs more than copying it.
#[derive(Default)]
pub(crate) struct Payloads(BytesMut);

impl Payloads {
    pub(crate) fn copy(&mut self, payload: &[u8]) -> Bytes {
        if payload.len() >= BLOCK / 8 {
            return Bytes::copy_from_slice(payload);
        }
        if self.0.capacity() < payload.len() {
            self.0 = BytesMut::with_capacity(BLOCK);
        }
        self.0.extend_from_slice(payload);
        self.0.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_of_all_sizes_come_out_as_they_went_in() {
        let mut payloads = Payloads::default();
        let sizes = [0, 1, 100, BLOCK / 8 - 1, BLOCK / 8, BLOCK, 3 * BLOCK].into_iter().cycle().take(70);
        let made: Vec<(Vec<u8>, Bytes)> = (0_u8..)
            .zip(sizes)
            .map(|(byte, size)| {
                let payload = vec![byte; size];
                let copy = payloads.copy(&payload);
                (payload, copy)
            })
            .collect();
        assert!(made.iter().all(|(payload, copy)| payload == copy));
    }
}
