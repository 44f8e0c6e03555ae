#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| outbox_cli::properties::configuration(text));
