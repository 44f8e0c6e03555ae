//! Where DynamoDB is: the endpoint that `OUTBOX_TEST_AWS` names, `aws` for AWS itself by the environment's credentials and
//! region; else an emulator that `scripts/test-aws` starts for this process, and stops when the process is gone, however it
//! went.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use aws_sdk_dynamodb::{
    Client,
    config::{Credentials, Region, SharedCredentialsProvider},
};
use outbox_aws::Settings;

struct Server {
    /// None for AWS itself.
    endpoint: Option<String>,
    _guard: Option<Child>,
}

static SERVER: OnceLock<Server> = OnceLock::new();

/// The endpoint's URL; `None` for AWS's own.
pub(crate) fn endpoint() -> Option<&'static str> {
    SERVER.get_or_init(Server::find).endpoint.as_deref()
}

/// The emulator's URL. At AWS itself there is none, and a test that needs one is left out; it says so.
pub(crate) fn emulator() -> Option<&'static str> {
    let emulator = endpoint();
    if emulator.is_none() {
        eprintln!("left out at AWS itself: this does what only an emulator allows; OUTBOX_TEST_AWS may name one");
    }
    emulator
}

/// A client of it.
pub(crate) async fn client() -> Client {
    client_at(endpoint()).await
}

/// A client of another endpoint, as of a proxy before it.
pub(crate) async fn client_at(endpoint: Option<&str>) -> Client {
    let settings = Settings { endpoint: endpoint.map(str::to_owned), ..Settings::default() };
    let Some(_) = endpoint else { return outbox_aws::dynamodb::connect(&settings).await };
    // An emulator takes any credentials, where the environment has none.
    let loaded = settings.load().await;
    let mut config = aws_sdk_dynamodb::config::Builder::from(&loaded);
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_none() {
        let any = Credentials::new("test", "test", None, None, "tests");
        config = config.credentials_provider(SharedCredentialsProvider::new(any));
    }
    if loaded.region().is_none() {
        config = config.region(Region::new("eu-west-1"));
    }
    Client::from_conf(config.build())
}

/// Removes tables.
pub(crate) fn drop_tables(names: Vec<String>) {
    apart(async move {
        let client = client().await;
        for name in names {
            client.delete_table().table_name(name).send().await.unwrap();
        }
    });
}

/// Removes all tables whose names begin with `prefix` and a hyphen.
pub(crate) fn drop_tables_of(prefix: &str) {
    let begin = format!("{prefix}-");
    apart(async move {
        let (client, mut names) = (client().await, Vec::new());
        loop {
            let listed =
                client.list_tables().set_exclusive_start_table_name(names.last().cloned()).send().await.unwrap();
            names.extend(listed.table_names.unwrap_or_default());
            if listed.last_evaluated_table_name.is_none() {
                break;
            }
        }
        for name in names.into_iter().filter(|name| name.starts_with(&begin)) {
            client.delete_table().table_name(name).send().await.unwrap();
        }
    });
}

/// On a thread of its own: a runtime within a runtime is not allowed. A test that fails already does not wait for it.
fn apart(work: impl Future<Output = ()> + Send + 'static) {
    let working = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    });
    if !std::thread::panicking() {
        working.join().unwrap();
    }
}

impl Server {
    fn find() -> Self {
        match std::env::var("OUTBOX_TEST_AWS") {
            Ok(aws) if aws == "aws" => Self { endpoint: None, _guard: None },
            Ok(endpoint) => Self { endpoint: Some(endpoint), _guard: None },
            Err(_) => Self::start(),
        }
    }

    fn start() -> Self {
        let script = script();
        let folder = std::env::temp_dir().join(format!("outbox-test-aws-{}", std::process::id()));
        let started = Command::new(&script).arg("start").arg(&folder).output().expect("scripts/test-aws can be run");
        let (told, said) = (String::from_utf8_lossy(&started.stdout), String::from_utf8_lossy(&started.stderr));
        assert!(started.status.success(), "this test needs an emulator of AWS, and none can be started:\n{said}");
        Self { endpoint: Some(told.trim().to_owned()), _guard: Some(stop_at_the_end(&script, &folder)) }
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/test-aws")
}

/// The Python that has boto3.
pub(crate) fn python() -> String {
    let found = Command::new(script()).arg("find").output().expect("scripts/test-aws can be run");
    assert!(found.status.success(), "scripts/test-aws has not installed boto3: run `scripts/test-aws install`");
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

/// Statics are never dropped, and a test process may be killed: so another process waits for the end of its input.
fn stop_at_the_end(script: &Path, folder: &PathBuf) -> Child {
    Command::new("sh")
        .args(["-c", "cat >/dev/null; exec \"$0\" stop \"$1\""])
        .arg(script)
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Not in our group, or the terminal's interrupt would end it too early.
        .process_group(0)
        .spawn()
        .expect("sh can be run")
}
