//! Access control lists of a secured Kafka, which the client library cannot write: one request of Kafka's own protocol.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use anyhow::{Context, Result, ensure};

use super::{ANSWER_WITHIN, Kafka, blocking};

/// What a right is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A topic.
    Topic = 2,
    /// A consumer group.
    Group = 3,
}

/// What may be done with it. `Read` and `Write` bring `DESCRIBE` with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fetch records; join a group and commit to it.
    Read = 3,
    /// Append records.
    Write = 4,
    /// See that it exists.
    Describe = 8,
}

const CREATE_ACLS: i16 = 30;
const VERSION: i16 = 1;
// The name is meant literally, and the right is granted.
const LITERAL: u8 = 3;
const ALLOW: u8 = 3;

impl Kafka {
    /// Grants a user of a secured Kafka a right. To be asked of one that everything is allowed to.
    pub async fn grant(&self, user: &str, resource: Resource, name: &str, operation: Operation) -> Result<()> {
        let mut body = vec![0, 0, 0, 1, resource as u8];
        put(&mut body, name)?;
        body.push(LITERAL);
        put(&mut body, &format!("User:{user}"))?;
        put(&mut body, "*")?;
        body.extend([operation as u8, ALLOW]);
        let address = self.address().to_owned();
        blocking(move || accepted(&ask(&address, CREATE_ACLS, VERSION, &body)?)).await
    }
}

fn put(body: &mut Vec<u8>, text: &str) -> Result<()> {
    body.extend(i16::try_from(text.len())?.to_be_bytes());
    body.extend(text.as_bytes());
    Ok(())
}

/// Sends one request and returns the answer's body.
fn ask(address: &str, key: i16, version: i16, body: &[u8]) -> Result<Vec<u8>> {
    let mut request = [key.to_be_bytes(), version.to_be_bytes()].concat();
    // A number to know the answer by, and no client's name.
    request.extend([0, 0, 0, 7, 0xff, 0xff]);
    request.extend(body);
    let mut stream = TcpStream::connect(address).with_context(|| format!("Kafka at {address}"))?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(&u32::try_from(request.len())?.to_be_bytes())?;
    stream.write_all(&request)?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(size))?];
    stream.read_exact(&mut answer)?;
    Ok(answer.split_off(4.min(answer.len())))
}

/// After the throttling time and the count of results: a code, which is 0, and what is said.
fn accepted(answer: &[u8]) -> Result<()> {
    let code = answer.get(8..10).context("an answer that is too short")?;
    ensure!(code == [0, 0], "Kafka did not grant the right: {:?}", String::from_utf8_lossy(answer));
    Ok(())
}
