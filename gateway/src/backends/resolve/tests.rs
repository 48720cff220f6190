//! Where names may lead, and what happens when that changes, over a name server of our own.

use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::name_server::TokioConnectionProvider;
use hickory_resolver::proto::xfer::Protocol;
use tokio::net::UdpSocket;

use super::*;

/// What a name server says.
#[derive(Clone)]
enum Says {
    /// These addresses, for so many seconds.
    Here(Vec<[u8; 4]>, u32),
    /// Nothing, although all is well.
    Nothing,
    /// It has failed (SERVFAIL).
    Failed,
}

/// A name server that gives every question the same answer, until it is told another.
struct NameServer {
    says: Arc<Mutex<Says>>,
    asked: Arc<Mutex<u32>>,
    address: SocketAddr,
}

impl NameServer {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (says, asked) = (Arc::new(Mutex::new(Says::Nothing)), Arc::<Mutex<u32>>::default());
        let server = Self { says: Arc::clone(&says), asked: Arc::clone(&asked), address };
        tokio::spawn(async move {
            let mut question = [0; 512];
            loop {
                let Ok((length, from)) = socket.recv_from(&mut question).await else { return };
                *asked.lock() += 1;
                let answer = answer(&question[..length], &says.lock().clone());
                let _ = socket.send_to(&answer, from).await;
            }
        });
        server
    }

    fn says(&self, says: Says) {
        *self.says.lock() = says;
    }

    /// How often it was asked since the last time.
    fn asked(&self) -> u32 {
        std::mem::take(&mut *self.asked.lock())
    }

    /// Answers that come from it alone.
    fn answers(&self) -> Answers {
        let server = NameServerConfig::new(self.address, Protocol::Udp);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioConnectionProvider::default());
        builder.options_mut().attempts = 0;
        Answers { resolver: Ok(builder.build()), known: Mutex::default() }
    }
}

/// A message of RFC 1035 to a message with one question.
fn answer(question: &[u8], says: &Says) -> Vec<u8> {
    // The name ends with an empty label; type and class follow.
    let name = question[12..].iter().position(|&byte| byte == 0).unwrap();
    let end = 12 + name + 1 + 4;
    let is_a = question[end - 4..end - 2] == [0, 1];
    let (addresses, seconds, code) = match says {
        Says::Here(addresses, seconds) if is_a => (&addresses[..], *seconds, 0),
        Says::Here(..) | Says::Nothing => (&[][..], 0, 0),
        Says::Failed => (&[][..], 0, 2),
    };
    let mut out = question[..2].to_vec();
    // An answer, recursion asked for and available; one question.
    out.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(addresses.len()).unwrap(), 0, 0, 0, 0]);
    out.extend(&question[12..end]);
    for address in addresses {
        // The name of the question; type A, class IN; time to live; four bytes.
        out.extend([0xc0, 12, 0, 1, 0, 1]);
        out.extend(seconds.to_be_bytes());
        out.extend([0, 4]);
        out.extend(address);
    }
    out
}

const HOST: &str = "model.test";

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

const FIRST: [u8; 4] = [192, 0, 2, 1];
const SECOND: [u8; 4] = [192, 0, 2, 2];

/// A time to live of nothing counts as 5 s, so that a name is not asked for all the time.
#[tokio::test]
async fn f07_a_name_that_changes_leads_elsewhere_when_its_time_is_over() {
    let server = NameServer::start().await;
    let answers = server.answers();
    let now = clock::now();
    server.says(Says::Here(vec![SECOND, FIRST, FIRST], 0));
    assert_eq!(answers.of(HOST, now).await, Ok(vec![ip(1), ip(2)]), "in order, each once");
    server.says(Says::Here(vec![SECOND], 0));
    server.asked();
    let soon = now + LEAST - Duration::from_millis(1);
    assert_eq!(answers.of(HOST, soon).await, Ok(vec![ip(1), ip(2)]));
    assert_eq!(server.asked(), 0);
    assert_eq!(answers.of(HOST, now + LEAST).await, Ok(vec![ip(2)]));
    assert!(server.asked() > 0);
}

#[tokio::test]
async fn f07_a_long_time_to_live_holds_five_minutes_and_a_middling_one_as_long_as_it_says() {
    for (seconds, holds) in [(1, LEAST), (60, Duration::from_secs(60)), (86_400, MOST)] {
        let server = NameServer::start().await;
        let answers = server.answers();
        server.says(Says::Here(vec![FIRST], seconds));
        let now = clock::now();
        answers.of(HOST, now).await.unwrap();
        let held = answers.known.lock()[HOST].until - now;
        // The time to live began when the answer came.
        assert!(held >= holds && held < holds + Duration::from_secs(20), "{seconds}: {held:?}");
    }
}

#[tokio::test]
async fn f07_the_last_good_answer_stays_while_there_is_no_better_one() {
    let server = NameServer::start().await;
    let answers = server.answers();
    let mut now = clock::now();
    for says in [Says::Failed, Says::Nothing] {
        server.says(says);
        let error = answers.of(HOST, now).await.unwrap_err();
        assert!(error.starts_with("does not resolve: "), "{error}");
    }
    server.says(Says::Here(vec![FIRST], 0));
    assert_eq!(answers.of(HOST, now).await, Ok(vec![ip(1)]), "no failure is kept");
    for says in [Says::Failed, Says::Nothing, Says::Failed] {
        server.says(says);
        server.asked();
        now += LEAST;
        assert_eq!(answers.of(HOST, now).await, Ok(vec![ip(1)]));
        assert!(server.asked() > 0, "asked again");
        assert_eq!(answers.of(HOST, now).await, Ok(vec![ip(1)]));
        assert_eq!(server.asked(), 0, "and not all the time");
    }
    server.says(Says::Here(vec![SECOND], 0));
    now += LEAST;
    assert_eq!(answers.of(HOST, now).await, Ok(vec![ip(2)]));
}

#[test]
fn t23_a_name_leads_to_no_address_that_nobody_opted_into() {
    let table = [
        ("203.0.113.9", true, true),
        ("10.1.2.3", false, true),
        ("127.0.0.1", false, true),
        ("100.64.0.1", false, true),
        ("169.254.169.254", false, false),
        ("0.0.0.0", false, false),
        ("224.0.0.1", false, false),
        ("::1", false, true),
        ("fd00::1", false, true),
        ("fe80::1", false, false),
        ("::ffff:169.254.169.254", false, false),
        ("2001:db8::1", true, true),
    ];
    for (ip, public, with_leave) in table {
        let ip = ip.parse().unwrap();
        assert_eq!((allowed(ip, false), allowed(ip, true)), (public, with_leave), "{ip}");
    }
}
