//! An answer that is passed on as it comes, however long it is.

use std::io;

use super::{ANSWER, AdminClient, Fault, Opened};

impl AdminClient {
    /// Gives the body of `GET path` to `sink`, piece by piece, until its end. Ends in peace when `sink`
    /// takes no more.
    ///
    /// # Errors
    /// Whatever is not a success, and an answer that breaks off: a part is never taken for the whole.
    pub(crate) fn pass_on(
        &self,
        path: &str,
        aim: &str,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Fault::failed(format!("cannot start: {error}"), ""))?;
        let broken = |why: &str| {
            let what = format!("the answer of {} broke off: {why}", self.url);
            Fault::failed(what, "what was printed is a part, not the whole")
        };
        runtime.block_on(async {
            let mut stream = match self.open(path, None).await? {
                Opened::Stream(stream) => stream,
                Opened::Refused(answer) => return Err(self.refused(&answer, aim)),
            };
            loop {
                // A piece may take its time, while the store looks for what is rare.
                let piece = tokio::time::timeout(ANSWER, stream.piece()).await;
                match piece.map_err(|_| broken("nothing came for 60 s"))? {
                    None => return Ok(()),
                    Some(Err(error)) => return Err(broken(&error.to_string())),
                    Some(Ok(piece)) => match sink(&piece) {
                        Ok(()) => {}
                        // Nobody reads any more (`… | head`), which is no error of ours.
                        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                        Err(error) => {
                            let what = format!("cannot write the answer: {error}");
                            return Err(Fault::failed(
                                what,
                                "what is written is a part, not the whole",
                            ));
                        }
                    },
                }
            }
        })
    }
}
