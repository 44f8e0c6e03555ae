#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outbox_sql::postgres::wal::properties::log_message(bytes));
