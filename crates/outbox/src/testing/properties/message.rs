//! Bytes as an HTTP message: a header a line, an empty line, the body.

/// What the bytes say; what has no colon is no header and is passed over.
pub(super) struct Message<'a> {
    pub(super) headers: Vec<(&'a str, &'a [u8])>,
    pub(super) body: &'a [u8],
}

impl<'a> Message<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        let mut message = Self { headers: Vec::new(), body: &[] };
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = (&rest[..end], &rest[end + 1..]);
            rest = behind;
            if line.is_empty() {
                message.body = rest;
                return message;
            }
            message.headers.extend(header(line));
        }
        message.headers.extend(header(rest));
        message
    }
}

fn header(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((std::str::from_utf8(&line[..colon]).ok()?, &line[colon + 1..]))
}
