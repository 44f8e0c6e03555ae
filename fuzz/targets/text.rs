#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| outbox::testing::properties::text(text));
