//! Servers on loopback that speak as DynamoDB does, each in a process of its own, and the clients that both sides of a
//! comparison use.

use aws_sdk_dynamodb::config::{Credentials, Region, SharedCredentialsProvider};
use outbox_aws::Settings;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// What this program is started with to be the server.
const SERVE: &str = "serve";

/// A server, until it is dropped.
pub struct Server {
    url: String,
    _process: Child,
}

impl Server {
    /// Starts this program once more, to be the server: see [`is_asked_to_serve`].
    pub async fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg(SERVE)
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).await.unwrap();
        Self { url: url.trim().to_owned(), _process: process }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client of the buses that it plays.
    pub async fn event_bridge(&self) -> aws_sdk_eventbridge::Client {
        let config = aws_sdk_eventbridge::config::Builder::from(&self.settings().await);
        let config = config.credentials_provider(any_credentials()).region(Region::new("eu-west-1"));
        aws_sdk_eventbridge::Client::from_conf(config.build())
    }

    /// A client of it.
    pub async fn client(&self) -> aws_sdk_dynamodb::Client {
        let config = aws_sdk_dynamodb::config::Builder::from(&self.settings().await);
        let config = config.credentials_provider(any_credentials()).region(Region::new("eu-west-1"));
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    /// A client of its streams.
    pub async fn streams(&self) -> aws_sdk_dynamodbstreams::Client {
        let config = aws_sdk_dynamodbstreams::config::Builder::from(&self.settings().await);
        let config = config.credentials_provider(any_credentials()).region(Region::new("eu-west-1"));
        aws_sdk_dynamodbstreams::Client::from_conf(config.build())
    }

    async fn settings(&self) -> aws_config::SdkConfig {
        Settings { endpoint: Some(self.url.clone()), ..Settings::default() }.load().await
    }
}

/// A server on loopback takes any.
fn any_credentials() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new("any", "any", None, None, "benches"))
}

/// Whether this process was started to be the server: it prints its URL, and serves until it is killed.
pub fn is_asked_to_serve() -> bool {
    std::env::args().nth(1).as_deref() == Some(SERVE)
}
