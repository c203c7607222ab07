// Separation by the server: a chunk goes out, and its estimates come back, in order.

export class Engine {
  constructor({ num_sources: numSources }) {
    this.numSources = numSources;
    this.waiting = [];
  }

  open() {
    const address = new URL("audio", self.location.href);
    address.protocol = address.protocol.replace("http", "ws");
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => this.waiting.shift()?.resolve(this.read(data));
    return new Promise((resolve, reject) => {
      this.socket.onopen = resolve;
      this.socket.onclose = ({ reason }) => {
        const gone = "The server does not answer. Is tasnet live still running there?";
        this.error = new Error(reason ? `The server has ended the recording: ${reason}.` : gone);
        reject(this.error);
        this.waiting.splice(0).forEach((each) => each.reject(this.error));
      };
    });
  }

  read(buffer) {
    const values = new Float32Array(buffer);
    const length = (values.length - 1) / this.numSources;
    const estimates = Array.from({ length: this.numSources }, (_, k) => values.slice(1 + k * length, 1 + (k + 1) * length));
    return { seconds: values[0], estimates };
  }

  send(message) {
    return new Promise((resolve, reject) => {
      if (this.error) { reject(this.error); return; }
      this.waiting.push({ resolve, reject });
      this.socket.send(message);
    });
  }

  push(samples) { return this.send(samples); }

  finish() { return this.send("finish"); }

  close() {
    this.socket.onclose = null;
    this.socket.close();
  }
}
