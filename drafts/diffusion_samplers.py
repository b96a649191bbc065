import functools, math, sys, time, jax, jax.numpy as jnp, numpy as np
import minimuse as mm
from minimuse.data import scenes
from minimuse.decoding import both_halves, guided_predict
from minimuse.evaluate.baselines import Twin, signal_and_noise
from minimuse.evaluate.fidelity import fidelity
from minimuse.evaluate.metrics import random_features, frechet
from minimuse.vqgan import nearest_code, to_uint8
muse=mm.Muse.from_pretrained("tiny",superres=False); twin=Twin.from_pretrained("diffusion","tiny",muse)
N=int(sys.argv[1]); FIRST=10_000
pairs=[scenes.example("val",FIRST+i) for i in range(N)]
true=scenes.render_batch([s for s,_ in pairs],64); tf=random_features(true)

def grid(kind,steps):
    u=np.linspace(1,0,steps+1)
    if kind=="uniform": u[0]=0.999
    if kind=="lambda":   # equal steps of log(alpha/sigma)
        lam=np.linspace(-5,4,steps); u=np.append(2/np.pi*np.arctan(np.exp(-lam)),0)
    return u

@functools.partial(jax.jit,static_argnames=("steps","kind","order"))
def sample(model,prompts,scale,steps,kind,order):
    (text,negative,keys)=prompts
    emb,mask=both_halves(text,negative); kv=model.text_keys_values(emb)
    shape=math.prod(model.grid),model.codes().shape[1]
    us=grid(kind,steps); al=np.cos(np.pi/2*us); si=np.sin(np.pi/2*us); lam=np.log(np.maximum(al,1e-9)/np.maximum(si,1e-9))
    a=jnp.asarray(np.stack([us[:-1],al[:-1],si[:-1],al[1:],si[1:]],1),jnp.float32)
    h=lam[1:]-lam[:-1]; c=np.zeros(steps)
    if order==2:
        for i in range(1,steps-1): c[i]=h[i]/(2*h[i-1])   # last step: first order
    e=np.exp(-h); e[-1]=0 if us[-1]==0 else e[-1]
    a=jnp.concatenate([a,jnp.asarray(np.stack([c,e],1),jnp.float32)],1)
    def step(carry,row):
        z,last=carry; u,an,sn,at,st,cc,ee=row
        v=guided_predict(lambda z: model(z,jnp.full(len(z),u),kv,mask),True)(z,scale)
        x=an*z-sn*v
        d=(1+cc)*x-cc*last
        z=(st/sn)*z-at*(ee-1)*d
        return (z,x),None
    z=jax.vmap(lambda k: jax.random.normal(k,shape,jnp.float32))(keys)
    (_,x),_=jax.lax.scan(step,(z,z),a)
    return x
dec=jax.jit(lambda m,x: m.decoder(x))
def run(steps,t,kind,order):
    imgs,cont=[],[]
    for s in range(0,N,32):
        p=muse.prompts([c for _,c in pairs[s:s+32]],1,s)
        x=sample(twin.model,p,jnp.float32(t),steps,kind,order)
        ids=nearest_code(x,twin.model.codes())
        imgs.append(np.asarray(muse.detokenize(np.asarray(ids).reshape(-1,8,8))))
        c=x/x.shape[-1]**0.5; c=c/jnp.linalg.norm(c,axis=-1,keepdims=True)
        cont.append(np.asarray(to_uint8(dec(muse.models["tokenizer"],c.reshape(-1,8,8,c.shape[-1])))))
    out=[]
    for im in (np.concatenate(imgs),np.concatenate(cont)):
        f=fidelity(pairs,im); out.append(f"asked {f['overall']:.3f} exact {f['exact']:.3f} random {frechet(random_features(im),tf):.3f}")
    return out
for steps,t,kind,order in ((25,1.0,"uniform",1),(10,1.0,"uniform",1),(10,1.0,"uniform",2),(10,1.0,"lambda",2),(15,1.0,"uniform",2),(25,1.0,"uniform",2),(25,1.0,"lambda",2),(10,2.0,"uniform",2),(25,2.0,"uniform",2),(50,1.0,"uniform",1)):
    b=time.time(); o=run(steps,t,kind,order); print(steps,t,kind,'DDIM' if order==1 else 'DPM++2M','| tokens:',o[0],'| continuous:',o[1],f"{time.time()-b:.0f} s",flush=True)
