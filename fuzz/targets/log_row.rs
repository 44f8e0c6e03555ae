#![no_main]

use outbox_sql::postgres::wal::properties::{cells, log_row};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| log_row(&cells(bytes)));
