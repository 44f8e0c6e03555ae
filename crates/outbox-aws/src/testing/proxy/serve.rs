//! A connection of a client, call by call.

use std::{io, sync::Arc};

use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Call, Fault, State, entries, locked};
use crate::testing::http::{Connection, Message, Sent};

/// What the JSON protocols call themselves.
const JSON: &str = "application/x-amz-json-1.1";

/// Serves `client` until one side ends the connection: an error is such an end, and nobody is left to be told.
pub(super) async fn serve(client: TcpStream, state: Arc<State>) {
    let mut connected = Connected { client: Connection::new(client), service: None, state };
    while let Ok(true) = connected.next().await {}
}

struct Connected {
    client: Connection,
    /// Made with the first call that passes.
    service: Option<Connection>,
    state: Arc<State>,
}

impl Connected {
    /// Answers the next call; false once the connection is to end.
    async fn next(&mut self) -> io::Result<bool> {
        let Some(request) = self.client.receive(Sent::Whole).await? else { return Ok(false) };
        let call = Call::of(&request);
        let sent = if request.request_line().0 == "HEAD" { Sent::AnswerToHead } else { Sent::Whole };
        let answer = match self.state.decide(&call) {
            Fault::Pass => self.pass(&call, &request, sent).await?,
            Fault::Answer(status, body) => {
                let answer = Message::answer(status, JSON, body);
                self.note(&call.body, &answer, &call);
                answer
            }
            Fault::Refuse(status, code) => refusal(&call, status, &code),
            Fault::LoseCall => return Ok(false),
            Fault::LoseAnswer => {
                self.pass(&call, &request, sent).await?;
                return Ok(false);
            }
            Fault::Slow(by) => {
                let answer = self.pass(&call, &request, sent).await?;
                tokio::time::sleep(by).await;
                answer
            }
            Fault::Hold(held) => {
                held.wait().await;
                let answer = self.pass(&call, &request, sent).await?;
                held.is_answered();
                answer
            }
            Fault::HoldAnswer(held) => {
                let answer = self.pass(&call, &request, sent).await?;
                held.wait().await;
                answer
            }
            Fault::Entries(refused) => self.pass_some(&call, &request, &refused).await?,
        };
        self.client.send(&answer, sent).await?;
        Ok(true)
    }

    /// Lets a request through to the service.
    async fn pass(&mut self, call: &Call, request: &Message, sent: Sent) -> io::Result<Message> {
        let Some(upstream) = &self.state.upstream else { return Ok(self.alone(call)) };
        let service = match &mut self.service {
            Some(service) => service,
            None => self.service.insert(Connection::to(upstream).await?),
        };
        service.send(request, Sent::Whole).await?;
        let Some(answer) = service.receive(sent).await? else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        self.note(&serde_json::from_slice(&request.body).unwrap_or_default(), &answer, call);
        Ok(answer)
    }

    /// What a call gets that nobody stands behind: entries are taken, everything else has to be scripted.
    fn alone(&self, call: &Call) -> Message {
        if call.operation != "PutEvents" {
            return refusal(call, 501, "NotScripted");
        }
        let answer = Message::answer(200, JSON, entries::all_accepted(&call.body).to_string());
        self.note(&call.body, &answer, call);
        answer
    }

    /// Lets those entries through that are not turned away.
    async fn pass_some(&mut self, call: &Call, request: &Message, refused: &[(usize, String)]) -> io::Result<Message> {
        let answered = match entries::without(&call.body, refused) {
            None => Value::Null,
            Some(left) => {
                let call = Call { body: left.clone(), ..call.clone() };
                let request = Message { body: left.to_string().into(), ..request.clone() };
                let answer = self.pass(&call, &request, Sent::Whole).await?;
                if answer.status() != 200 {
                    return Ok(answer);
                }
                serde_json::from_slice(&answer.body).unwrap_or_default()
            }
        };
        Ok(Message::answer(200, JSON, entries::with(&call.body, refused, &answered).to_string()))
    }

    /// Notes what was accepted.
    fn note(&self, body: &Value, answer: &Message, call: &Call) {
        let kept = !self.state.forgets.load(std::sync::atomic::Ordering::Relaxed);
        if kept && call.operation == "PutEvents" && answer.status() == 200 {
            let answered = serde_json::from_slice(&answer.body).unwrap_or_default();
            locked(&self.state.accepted).extend(entries::accepted(body, &answered));
        }
    }
}

/// An error, as the call's protocol writes it.
fn refusal(call: &Call, status: u16, code: &str) -> Message {
    if call.is_xml() {
        let error = format!("<Code>{code}</Code><Message>as scripted</Message>");
        let body = match call.service.as_str() {
            "s3" => format!("<Error>{error}</Error>"),
            _ => format!("<ErrorResponse><Error>{error}</Error></ErrorResponse>"),
        };
        return Message::answer(status, "application/xml", body);
    }
    Message::answer(status, JSON, json!({ "__type": code, "message": "as scripted" }).to_string())
}
