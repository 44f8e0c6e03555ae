//! Who owns a lease, as text: machine and process.

/// This process.
pub(crate) fn this() -> String {
    format!("{}:{}", machine(), std::process::id())
}

/// Whether `holder` is a process of this machine that has ended. `false` where that cannot be told.
pub(crate) fn has_ended(holder: &str) -> bool {
    let Some((machine_of, process)) = holder.rsplit_once(':') else { return false };
    let Ok(process) = process.parse::<u32>() else { return false };
    let known = std::path::Path::new("/proc/self").exists();
    known && machine_of == machine() && !std::path::Path::new("/proc").join(process.to_string()).exists()
}

fn machine() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    if host.trim().is_empty() { "localhost".to_owned() } else { host.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_not_ended() {
        assert!(!has_ended(&this()));
        assert!(!has_ended("elsewhere:1"));
        assert!(!has_ended("no process"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_is_no_more_has_ended() {
        // Beyond the largest number that Linux gives a process.
        assert!(has_ended(&format!("{}:{}", machine(), u32::MAX)));
    }
}
