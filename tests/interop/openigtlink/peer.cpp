// The other end of the wire, by the reference library: says one message of each type, or prints what it hears.
//   peer listen PORT COUNT      connect, print a line a message
//   peer say PORT               connect, send one of each type, wait for the other side to close
//   peer serve HZ COUNT         listen, print the port, send COUNT transforms at HZ
//   peer ask PORT               connect, send STT_QTDATA and GET_CAPABILITY, print what comes till the other side closes
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>
#include <time.h>

#include "igtlCapabilityMessage.h"
#include "igtlClientSocket.h"
#include "igtlImageMessage.h"
#include "igtlMath.h"
#include "igtlMessageHeader.h"
#include "igtlOSUtil.h"
#include "igtlPolyDataMessage.h"
#include "igtlPositionMessage.h"
#include "igtlQuaternionTrackingDataMessage.h"
#include "igtlServerSocket.h"
#include "igtlStatusMessage.h"
#include "igtlStringMessage.h"
#include "igtlTrackingDataMessage.h"
#include "igtlTrajectoryMessage.h"
#include "igtlTransformMessage.h"

static void numbers(const float* v, int n) { for (int i = 0; i < n; i++) printf(" %.9g", v[i]); }

static void matrix(igtl::Matrix4x4& m) { for (int c = 0; c < 4; c++) for (int r = 0; r < 3; r++) printf(" %.9g", m[r][c]); }

static void test_matrix(igtl::Matrix4x4& m, float shift) {
  const float v[3][4] = {{0, -1, 0, 10.5f + shift}, {1, 0, 0, -20.25f}, {0, 0, 1, 300.125f}};
  igtl::IdentityMatrix(m);
  for (int r = 0; r < 3; r++) for (int c = 0; c < 4; c++) m[r][c] = v[r][c];
}

template <class M> typename M::Pointer body(igtl::ClientSocket* s, igtl::MessageHeader* h, int& ok) {
  typename M::Pointer m = M::New();
  m->SetMessageHeader(h);
  m->AllocatePack();
  if (m->GetPackBodySize() > 0) s->Receive(m->GetPackBodyPointer(), m->GetPackBodySize());
  ok = (m->Unpack(1) & igtl::MessageHeader::UNPACK_BODY) != 0 || m->GetPackBodySize() == 0;
  return m;
}

static bool hear(igtl::ClientSocket* s) {
  igtl::MessageHeader::Pointer h = igtl::MessageHeader::New();
  h->InitPack();
  if (s->Receive(h->GetPackPointer(), h->GetPackSize()) != h->GetPackSize()) return false;
  h->Unpack();
  igtl::TimeStamp::Pointer ts = igtl::TimeStamp::New();
  h->GetTimeStamp(ts);
  unsigned int sec, nano;
  ts->GetTimeStamp(&sec, &nano);
  const std::string type = h->GetDeviceType();
  printf("%s|%s|%u.%09u|", type.c_str(), h->GetDeviceName(), sec, nano);
  int ok = 0;
  if (type == "TRANSFORM") {
    igtl::TransformMessage::Pointer m = body<igtl::TransformMessage>(s, h, ok);
    igtl::Matrix4x4 x; m->GetMatrix(x); printf("%d|", ok); matrix(x);
  } else if (type == "TDATA") {
    igtl::TrackingDataMessage::Pointer m = body<igtl::TrackingDataMessage>(s, h, ok);
    printf("%d|", ok);
    for (int i = 0; i < m->GetNumberOfTrackingDataElements(); i++) {
      igtl::TrackingDataElement::Pointer e; m->GetTrackingDataElement(i, e);
      igtl::Matrix4x4 x; e->GetMatrix(x); printf(" %s %d", e->GetName(), e->GetType()); matrix(x);
    }
  } else if (type == "QTDATA") {
    igtl::QuaternionTrackingDataMessage::Pointer m = body<igtl::QuaternionTrackingDataMessage>(s, h, ok);
    printf("%d|", ok);
    for (int i = 0; i < m->GetNumberOfQuaternionTrackingDataElements(); i++) {
      igtl::QuaternionTrackingDataElement::Pointer e; m->GetQuaternionTrackingDataElement(i, e);
      float p[3], q[4]; e->GetPosition(p); e->GetQuaternion(q);
      printf(" %s %d", e->GetName(), e->GetType()); numbers(p, 3); numbers(q, 4);
    }
  } else if (type == "POSITION") {
    igtl::PositionMessage::Pointer m = body<igtl::PositionMessage>(s, h, ok);
    float p[3], q[4]; m->GetPosition(p); m->GetQuaternion(q); printf("%d|", ok); numbers(p, 3); numbers(q, 4);
  } else if (type == "STATUS") {
    igtl::StatusMessage::Pointer m = body<igtl::StatusMessage>(s, h, ok);
    printf("%d| %d %lld %s %s", ok, m->GetCode(), (long long)m->GetSubCode(), m->GetErrorName(), m->GetStatusString());
  } else if (type == "STRING") {
    igtl::StringMessage::Pointer m = body<igtl::StringMessage>(s, h, ok);
    printf("%d| %d %s", ok, m->GetEncoding(), m->GetString());
  } else if (type == "CAPABILITY") {
    igtl::CapabilityMessage::Pointer m = body<igtl::CapabilityMessage>(s, h, ok);
    printf("%d|", ok);
    for (int i = 0; i < m->GetNumberOfTypes(); i++) printf(" %s", m->GetType(i));
  } else if (type == "TRAJ") {
    igtl::TrajectoryMessage::Pointer m = body<igtl::TrajectoryMessage>(s, h, ok);
    printf("%d|", ok);
    for (int i = 0; i < m->GetNumberOfTrajectoryElement(); i++) {
      igtl::TrajectoryElement::Pointer e; m->GetTrajectoryElement(i, e);
      float a[3], b[3]; e->GetEntryPosition(a); e->GetTargetPosition(b);
      igtlUint8 c[4]; e->GetRGBA(c);
      printf(" %s;%s;%s %d", e->GetName(), e->GetGroupName(), e->GetOwner(), e->GetType());
      numbers(a, 3); numbers(b, 3); printf(" %.9g %d %d %d %d", e->GetRadius(), c[0], c[1], c[2], c[3]);
    }
  } else if (type == "POLYDATA") {
    igtl::PolyDataMessage::Pointer m = body<igtl::PolyDataMessage>(s, h, ok);
    printf("%d| %d %u", ok, m->GetPoints()->GetNumberOfPoints(), m->GetPolygons()->GetNumberOfCells());
    for (int i = 0; i < m->GetPoints()->GetNumberOfPoints(); i++) { float p[3]; m->GetPoints()->GetPoint(i, p); numbers(p, 3); }
    for (unsigned i = 0; i < m->GetPolygons()->GetNumberOfCells(); i++) {
      std::vector<igtlUint32> c(m->GetPolygons()->GetCellSize(i)); m->GetPolygons()->GetCell(i, c.data());
      for (igtlUint32 x : c) printf(" %u", x);
    }
  } else if (type == "IMAGE") {
    igtl::ImageMessage::Pointer m = body<igtl::ImageMessage>(s, h, ok);
    int n[3]; m->GetDimensions(n);
    igtl::Matrix4x4 x; m->GetMatrix(x);
    float step[3]; m->GetSpacing(step);
    const unsigned char* v = (const unsigned char*)m->GetScalarPointer();
    unsigned long sum = 0;
    for (int i = 0; i < m->GetImageSize(); i++) sum = (sum * 31 + v[i]) % 1000000007UL;
    printf("%d| %d %d %d %d %d %d %lu", ok, n[0], n[1], n[2], m->GetScalarType(), m->GetEndian(), m->GetCoordinateSystem(), sum);
    matrix(x); numbers(step, 3);
  } else if (type == "RTS_QTDATA") {
    igtl::RTSQuaternionTrackingDataMessage::Pointer m = body<igtl::RTSQuaternionTrackingDataMessage>(s, h, ok);
    printf("%d| %d", ok, m->GetStatus());
  } else {
    s->Skip(h->GetBodySizeToRead(), 0);
    printf("0| skipped");
  }
  timespec now; clock_gettime(CLOCK_REALTIME, &now);
  printf("|%ld.%09ld\n", (long)now.tv_sec, now.tv_nsec);
  fflush(stdout);
  return true;
}

template <class S> static void send(S* s, igtl::MessageBase* m, const char* name, bool stamp = true) {
  m->SetDeviceName(name);
  if (stamp) { igtl::TimeStamp::Pointer ts = igtl::TimeStamp::New(); ts->SetTime(1700000000u, 123456789u); m->SetTimeStamp(ts); }
  m->Pack();
  s->Send(m->GetPackPointer(), m->GetPackSize());
}

static void say(igtl::ClientSocket* s) {
  igtl::Matrix4x4 x; test_matrix(x, 0);
  { igtl::TransformMessage::Pointer m = igtl::TransformMessage::New(); m->SetMatrix(x); send(s, m, "StylusToTracker"); }
  { igtl::TrackingDataMessage::Pointer m = igtl::TrackingDataMessage::New();
    for (int i = 0; i < 2; i++) {
      igtl::TrackingDataElement::Pointer e = igtl::TrackingDataElement::New();
      test_matrix(x, (float)i); e->SetName(i ? "Drill" : "Reference"); e->SetType(igtl::TrackingDataElement::TYPE_6D);
      e->SetMatrix(x); m->AddTrackingDataElement(e); }
    send(s, m, "Tracker"); }
  { igtl::QuaternionTrackingDataMessage::Pointer m = igtl::QuaternionTrackingDataMessage::New();
    igtl::QuaternionTrackingDataElement::Pointer e = igtl::QuaternionTrackingDataElement::New();
    e->SetName("Reference"); e->SetType(igtl::QuaternionTrackingDataElement::TYPE_6D);
    e->SetPosition(1, 2, 3); e->SetQuaternion(0.5f, 0.5f, 0.5f, 0.5f); m->AddQuaternionTrackingDataElement(e);
    send(s, m, "Tracker"); }
  { igtl::PositionMessage::Pointer m = igtl::PositionMessage::New();
    m->SetPosition(1, 2, 3); m->SetQuaternion(0.5f, 0.5f, 0.5f, 0.5f); send(s, m, "Pointer"); }
  { igtl::PositionMessage::Pointer m = igtl::PositionMessage::New();
    m->SetPackType(igtl::PositionMessage::WITH_QUATERNION3);
    m->SetPosition(1, 2, 3); m->SetQuaternion(0.5f, 0.5f, 0.5f, 0.5f); send(s, m, "Pointer"); }
  { igtl::StatusMessage::Pointer m = igtl::StatusMessage::New();
    m->SetCode(igtl::StatusMessage::STATUS_NOT_READY); m->SetSubCode(-77); m->SetErrorName("Warming"); m->SetStatusString("lamp is cold");
    send(s, m, "Tracker"); }
  { igtl::StringMessage::Pointer m = igtl::StringMessage::New(); m->SetString("hello"); send(s, m, "Words"); }
  { igtl::CapabilityMessage::Pointer m = igtl::CapabilityMessage::New();
    std::vector<std::string> types; types.push_back("IMAGE"); types.push_back("GET_IMAGE"); m->SetTypes(types); send(s, m, "Peer"); }
  { igtl::TrajectoryMessage::Pointer m = igtl::TrajectoryMessage::New();
    igtl::TrajectoryElement::Pointer e = igtl::TrajectoryElement::New();
    e->SetName("L3 left"); e->SetGroupName("Plan"); e->SetType(igtl::TrajectoryElement::TYPE_ENTRY_TARGET); e->SetRGBA(1, 2, 3, 4);
    e->SetEntryPosition(1, 2, 3); e->SetTargetPosition(4, 5, 6); e->SetRadius(6.5f); e->SetOwner("CT");
    m->AddTrajectoryElement(e); send(s, m, "Plan"); }
  { igtl::PolyDataMessage::Pointer m = igtl::PolyDataMessage::New();
    igtl::PolyDataPointArray::Pointer p = igtl::PolyDataPointArray::New();
    p->AddPoint(0, 0, 0); p->AddPoint(10, 0, 0); p->AddPoint(0, 10, 0); p->AddPoint(0, 0, 10);
    igtl::PolyDataCellArray::Pointer c = igtl::PolyDataCellArray::New();
    igtlUint32 t[4][3] = {{0, 2, 1}, {0, 1, 3}, {1, 2, 3}, {0, 3, 2}};
    for (int i = 0; i < 4; i++) c->AddCell(3, t[i]);
    igtl::PolyDataAttribute::Pointer a = igtl::PolyDataAttribute::New();
    a->SetType(igtl::PolyDataAttribute::POINT_SCALAR); a->SetSize(4); a->SetName("height");
    float v[4] = {0, 1, 2, 3}; a->SetData(v);
    m->SetPoints(p); m->SetPolygons(c); m->AddAttribute(a); send(s, m, "Bone"); }
  { igtl::ImageMessage::Pointer m = igtl::ImageMessage::New();
    m->SetDimensions(5, 4, 3); m->SetSpacing(0.5f, 0.5f, 2.0f); m->SetScalarTypeToInt16(); m->SetEndian(igtl::ImageMessage::ENDIAN_LITTLE);
    m->SetCoordinateSystem(igtl::ImageMessage::COORDINATE_LPS); m->AllocateScalars();
    short* v = (short*)m->GetScalarPointer(); for (int i = 0; i < 60; i++) v[i] = (short)(i * 37 - 1000);
    test_matrix(x, 0);
    m->SetMatrix(x); send(s, m, "CT"); }
  { igtl::StartTrackingDataMessage::Pointer m = igtl::StartTrackingDataMessage::New();
    m->SetResolution(20); m->SetCoordinateName("Reference"); send(s, m, "Peer", false); }
  { igtl::StopTrackingDataMessage::Pointer m = igtl::StopTrackingDataMessage::New(); send(s, m, "Peer", false); }
  { igtl::RTSTrackingDataMessage::Pointer m = igtl::RTSTrackingDataMessage::New(); m->SetStatus(1); send(s, m, "Peer", false); }
  { igtl::GetCapabilityMessage::Pointer m = igtl::GetCapabilityMessage::New(); send(s, m, "Peer", false); }
}

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "serve") {
    const double hz = atof(argv[2]); const int count = atoi(argv[3]);
    igtl::ServerSocket::Pointer server = igtl::ServerSocket::New();
    if (server->CreateServer(0) < 0) return 1;
    printf("%d\n", server->GetServerPort()); fflush(stdout);
    igtl::ClientSocket::Pointer s = server->WaitForConnection(20000);
    if (s.IsNull()) return 2;
    timespec next; clock_gettime(CLOCK_MONOTONIC, &next);
    for (int i = 0; i < count; i++) {
      igtl::Matrix4x4 x; test_matrix(x, 0.01f * i);
      igtl::TransformMessage::Pointer m = igtl::TransformMessage::New();
      timespec now; clock_gettime(CLOCK_REALTIME, &now);
      igtl::TimeStamp::Pointer ts = igtl::TimeStamp::New(); ts->SetTime((igtlUint32)now.tv_sec, (igtlUint32)now.tv_nsec);
      m->SetMatrix(x); m->SetDeviceName("StylusToTracker"); m->SetTimeStamp(ts); m->Pack();
      if (!s->Send(m->GetPackPointer(), m->GetPackSize())) return 3;
      next.tv_nsec += (long)(1e9 / hz);
      while (next.tv_nsec >= 1000000000L) { next.tv_nsec -= 1000000000L; next.tv_sec++; }
      clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, 0);
    }
    s->CloseSocket();
    return 0;
  }
  igtl::ClientSocket::Pointer s = igtl::ClientSocket::New();
  if (argc < 3 || s->ConnectToServer("127.0.0.1", atoi(argv[2])) != 0) return 1;
  if (what == "listen") {
    for (int i = 0; i < atoi(argv[3]); i++) if (!hear(s)) return 2;
  } else if (what == "say") {
    say(s);
    char rest; while (s->Receive(&rest, 1) > 0) {}
  } else if (what == "ask") {
    igtl::StartQuaternionTrackingDataMessage::Pointer m = igtl::StartQuaternionTrackingDataMessage::New();
    m->SetResolution(10); send(&*s, m, "Peer", false);
    igtl::GetCapabilityMessage::Pointer g = igtl::GetCapabilityMessage::New(); send(&*s, g, "Peer", false);
    while (hear(s)) {}
  }
  s->CloseSocket();
  return 0;
}
