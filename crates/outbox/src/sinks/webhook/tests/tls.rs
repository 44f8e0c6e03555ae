//! Whose certificate is trusted.

use tokio_rustls::rustls::{
    self,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::*;

/// An authority of these tests; its key was thrown away.
const AUTHORITY: &[u8] = include_bytes!("authority.pem");
/// A certificate by that authority for the name `localhost`, and its key. It guards nothing.
const CERTIFICATE: &[u8] = include_bytes!("localhost.pem");
const KEY: &[u8] = include_bytes!("localhost-key.pem");

async fn server() -> Server {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Server::start_tls(Reply::status("202 Accepted", "", ""), config).await
}

fn settings(server: &Server, host: &str) -> WebhookSettings {
    let url = format!("https://{host}:{}/events", server.port);
    WebhookSettings { root_certificates: Some(AUTHORITY.to_vec()), ..WebhookSettings::new(url) }
}

#[tokio::test]
async fn a_certificate_by_a_configured_authority_is_trusted() {
    let server = server().await;
    let outcomes = sink(settings(&server, "localhost")).publish(&batch(1..=1)).await.unwrap();
    assert_eq!(outcomes, [Outcome::Accepted]);
}

#[tokio::test]
async fn a_certificate_by_an_unknown_authority_is_the_sinks_fault_and_nothing_is_sent() {
    let mut server = server().await;
    // An authority that did not sign it: the server's own certificate.
    let unknown = WebhookSettings { root_certificates: Some(CERTIFICATE.to_vec()), ..settings(&server, "localhost") };
    for settings in [unknown, WebhookSettings { root_certificates: None, ..settings(&server, "localhost") }] {
        // A machine without any authorities refuses to make the sink, which is as well.
        let Ok(sink) = WebhookSink::new(settings, Arc::new(Stopped)) else { continue };
        let error = sink.publish(&batch(1..=1)).await.unwrap_err();
        assert_eq!((error.fault, error.uncertain), (Fault::Sink, false));
        assert!(error.message.contains("`root_certificates`"), "{error}");
    }
    assert!(server.is_quiet());
}

#[tokio::test]
async fn a_certificate_for_another_name_is_the_sinks_fault() {
    let server = server().await;
    let error = sink(settings(&server, "127.0.0.1")).publish(&batch(1..=1)).await.unwrap_err();
    assert_eq!((error.fault, error.uncertain), (Fault::Sink, false));
    assert!(error.message.contains("certificate"), "{error}");
}
