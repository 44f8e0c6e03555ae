#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outbox::testing::properties::receiver(bytes));
