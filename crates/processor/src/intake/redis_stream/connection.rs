//! The reader's own connection: commands out, replies decoded where they lie.
//!
//! A future of this connection that is dropped half-way leaves a reply on the wire: drop the connection with it.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use stream_reply::{DecodeError, ReplyDecoder, SimpleReply, Step, decode_simple, encode_command};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::stores::{Redis, Socket, assert_one_of_words};

/// Longest silence in the middle of a reply, beyond what the command itself may block.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// Room made for each read from the socket.
const READ_SIZE: usize = 256 * 1024;

/// Why the connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("Redis: {0}")]
    Io(#[from] io::Error),
    #[error("Redis answered nothing for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("Redis: {0}")]
    Protocol(#[from] DecodeError),
    #[error("Redis refused: {0}")]
    Refused(String),
}

/// One connection, one command at a time.
pub(super) struct Connection {
    socket: Box<dyn Socket>,
    input: BytesMut,
    output: BytesMut,
    patience: Duration,
    /// Each command says that the owner of its slot has sent us here.
    is_asked: bool,
}

impl Connection {
    /// Authenticates on a socket, selects the database, and says who we are. `is_asked`: the socket leads to a node that is only
    /// taking a slot over.
    pub(super) async fn open(
        redis: &Redis,
        (socket, is_asked): (Box<dyn Socket>, bool),
        name: &str,
    ) -> Result<Self, ConnectionError> {
        let mut connection = Self {
            socket,
            input: BytesMut::new(),
            output: BytesMut::new(),
            patience: REPLY_TIMEOUT,
            is_asked: false,
        };
        let config = redis.dialer().config();
        if let Some(password) = &config.password {
            let mut command: Vec<&[u8]> = vec![b"AUTH"];
            command.extend(config.user.as_ref().map(String::as_bytes));
            let text = password.renewed().await;
            command.push(text.as_bytes());
            connection.command(&command).await?;
            password.was_accepted(&text);
        }
        if config.database != 0 {
            let database = config.database.to_string();
            connection.command(&[b"SELECT", database.as_bytes()]).await?;
        }
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_graphic() { c } else { '_' })
            .collect();
        connection
            .command(&[b"CLIENT", b"SETNAME", name.as_bytes()])
            .await?;
        connection.is_asked = is_asked;
        Ok(connection)
    }

    /// Whether it leads to a node that is only taking the stream's slot over.
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// Sends a command whose reply is read with [`Connection::step`]. `block` is how long the server may keep it.
    pub(super) async fn send(&mut self, arguments: &[&[u8]], block: Duration) -> Result<(), ConnectionError> {
        self.send_together(&[arguments], block).await?;
        self.reaches_reply().await
    }

    /// Sends commands right behind each other, also while a reply to earlier ones is still to be read. Their replies come in
    /// their order: each is read with [`Connection::short_reply`], or with [`Connection::reaches_reply`] and then
    /// [`Connection::step`].
    pub(super) async fn send_together(
        &mut self,
        commands: &[&[&[u8]]],
        block: Duration,
    ) -> Result<(), ConnectionError> {
        self.output.clear();
        for command in commands {
            assert_one_of_words(command);
            if self.is_asked {
                encode_command(&[b"ASKING"], &mut self.output);
            }
            encode_command(command, &mut self.output);
        }
        self.patience = REPLY_TIMEOUT + block;
        self.socket.write_all(&self.output).await?;
        self.socket.flush().await?;
        Ok(())
    }

    /// The next piece of the reply; reads from the socket as needed.
    pub(super) async fn step(&mut self, decoder: &mut ReplyDecoder) -> Result<Step, ConnectionError> {
        loop {
            match decoder.decode(&mut self.input)? {
                Step::NeedMore => self.fill().await?,
                step => return Ok(step),
            }
        }
    }

    /// A command with a short reply.
    pub(super) async fn command(&mut self, arguments: &[&[u8]]) -> Result<SimpleReply, ConnectionError> {
        self.send_together(&[arguments], Duration::ZERO).await?;
        self.short_reply().await
    }

    /// Reads what comes before a command's reply.
    pub(super) async fn reaches_reply(&mut self) -> Result<(), ConnectionError> {
        if self.is_asked {
            self.simple_reply().await?;
        }
        Ok(())
    }

    /// A command's short reply.
    pub(super) async fn short_reply(&mut self) -> Result<SimpleReply, ConnectionError> {
        self.reaches_reply().await?;
        self.simple_reply().await
    }

    async fn simple_reply(&mut self) -> Result<SimpleReply, ConnectionError> {
        loop {
            match decode_simple(&mut self.input)? {
                Some(SimpleReply::Error(message)) => return Err(ConnectionError::Refused(message)),
                Some(reply) => return Ok(reply),
                None => self.fill().await?,
            }
        }
    }

    async fn fill(&mut self) -> Result<(), ConnectionError> {
        self.input.reserve(READ_SIZE);
        let read = tokio::time::timeout(self.patience, self.socket.read_buf(&mut self.input))
            .await
            .map_err(|_elapsed| ConnectionError::Silent(self.patience))??;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(())
    }
}
