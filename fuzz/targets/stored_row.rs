#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outbox_sql::sqlite::properties::stored_row(bytes));
