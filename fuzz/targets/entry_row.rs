#![no_main]

use outbox_sql::sqlite::properties::{cells, entry_row};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry_row(&cells(bytes)));
